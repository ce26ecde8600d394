# One image per program. BuildKit builds the requested target only:
#
#   docker build --target kafka-consumer  --tag event-pipeline/kafka-consumer .
#   docker build --target event-generator --tag event-pipeline/event-generator .
#
# For another architecture add --platform linux/arm64 or linux/amd64: the build cross-compiles, without emulation.
# Behind a proxy that intercepts TLS, --secret id=ca_bundle,src=FILE adds its certificates.
#
# The images run as user 65532 with a read-only root file system and without capabilities, and have no shell:
#
#   docker run --read-only --cap-drop ALL event-pipeline/kafka-consumer --help

ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# The toolchain, for the target architecture
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS toolchain
ARG TARGETARCH
COPY deploy/docker/for-target /usr/local/bin/
RUN --mount=type=secret,id=ca_bundle for-target install
WORKDIR /workspace

# The manifests alone. BuildKit compares contents, so it repeats the next stage only if a dependency changes.
FROM toolchain AS manifests
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
    && find . -type d -empty -delete \
    && mkdir -p bench/benches \
    && touch bench/benches/hot_path.rs \
    && for package in bench crates/*; do \
        mkdir -p "$package/src" && touch "$package/src/lib.rs" && echo 'fn main() {}' >"$package/src/main.rs"; \
    done

FROM toolchain AS dependencies
COPY --from=manifests /workspace .
# Compiles the dependencies of both programs, with stubs in place of the workspace crates.
RUN --mount=type=secret,id=ca_bundle for-target cargo build --release --locked -p event-generator -p kafka-consumer

FROM dependencies AS build
COPY . .
# Cargo compares modification times, and the copied sources are older than the compiled stubs.
RUN find crates -name '*.rs' -exec touch {} + \
    && for-target cargo build --release --locked --offline -p event-generator -p kafka-consumer \
    && for-target collect /collected

# glibc, OpenSSL and the root certificates; no shell, no package manager
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /collected/lib/ /usr/lib/
USER 65532:65532
STOPSIGNAL SIGTERM

FROM runtime AS event-generator
LABEL org.opencontainers.image.title=event-generator \
      org.opencontainers.image.description="Generates product events and publishes them to Kafka and the lake"
COPY --from=build /collected/bin/event-generator /usr/local/bin/
# State of unfinished runs, the only folder that the program writes to
COPY --from=build --chown=65532:65532 /collected/state /var/lib/event-generator
VOLUME /var/lib/event-generator
ENV EVENT_GENERATOR_STATE_DIR=/var/lib/event-generator \
    EVENT_GENERATOR_HTTP_ADDR=0.0.0.0:9465
EXPOSE 9465
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["event-generator", "healthcheck"]
ENTRYPOINT ["event-generator"]

FROM runtime AS kafka-consumer
LABEL org.opencontainers.image.title=kafka-consumer \
      org.opencontainers.image.description="Inserts product events from Kafka into PostgreSQL, effectively once"
COPY --from=build /collected/bin/kafka-consumer /usr/local/bin/
ENV KAFKA_CONSUMER_HTTP_ADDR=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["kafka-consumer", "healthcheck"]
ENTRYPOINT ["kafka-consumer"]
