# What there is to do here; `make` alone shows it. CI calls the same targets.
.DEFAULT_GOAL := help
# Places where tests kill or stop the programs; those that people build have none.
FAILPOINTS := --features kafka-consumer/failpoints,event-generator/failpoints
# Flags of a benchmark: BENCH='--events 5000000 --rounds 3 --only consumer'
BENCH ?=
# Of chaos: SEED=7 gives the same order of faults again
SEED ?=
MINUTES ?= 10
# Of the demo
EVENTS ?= 1M
.PHONY: help setup packages servers browser build demo up down status test test-faults test-slow chaos test-page test-pgbouncer lint unit integration latency bench-consumer bench-generator bench-peers bench-day bench-growth flame-graphs bench-refine bench-check bench-steps images sbom format diagram schema

help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: packages servers ## Install what this machine lacks: system packages, and the local stack's servers into .local-stack

packages:
	@scripts/setup packages

servers: packages
	@scripts/setup servers

browser:
	@scripts/setup browser

build: packages ## Build all programs
	cargo build --workspace --locked

# The servers are fetched while the compiler is busy.
demo: packages ## Send events through the whole pipeline and account for each, command by command: EVENTS=1M
	@$(MAKE) --no-print-directory -j2 servers build
	@scripts/demo --events $(EVENTS)

up: setup ## Start Kafka, PostgreSQL and S3 on this machine
	@cargo run --quiet --locked -p local-stack -- up

down: ## Stop them; the data stays (local-stack down --purge removes it)
	@cargo run --quiet --locked -p local-stack -- down

status: ## Show whether they run
	@cargo run --quiet --locked -p local-stack -- status

test: setup lint unit integration test-page ## All checks: lint, unit, integration, the page in a browser

lint: packages ## Formatting, clippy (warnings are errors), and what is deployed with
	@scripts/setup deploy
	scripts/check-deploy
	cargo fmt --all --check
	@scripts/check-features
	cargo clippy --workspace --all-targets --locked $(FAILPOINTS) -- -D warnings

unit: packages ## Tests that need no servers
	cargo test --workspace --locked $(FAILPOINTS) --lib --bins
	cargo test --workspace --locked $(FAILPOINTS) --doc

integration: setup ## Tests against Kafka, PostgreSQL and S3 of their own, and other readers of our files
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test '*'

test-faults: setup ## What must not break the programs, the tests that take long: outages, kills, a restless group
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test faults -- --ignored --test-threads 2
	cargo test --locked -p event-generator --test generator -- --ignored --test-threads 2

test-slow: setup ## Add fields to a copy of the workspace as CONTRIBUTING.md says, build it and follow them (many minutes)
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test add_a_field -- --ignored --nocapture

chaos: setup ## Break everything at random under load, heal it, and verify what landed: SEED=7 MINUTES=10
	cargo build --locked -p chaos -p event-generator -p kafka-consumer $(FAILPOINTS)
	target/debug/chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES)

test-page: setup browser ## Look at the consumer's page with a browser
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test page -- --ignored

latency: setup ## Measure how long events take to become rows, at 1,000 events/s
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test latency -- --ignored --nocapture

# psql comes from the system; the servers are those of the local stack.
bench-consumer: setup ## Compare kafka-consumer with psql's copy on the same rows (table, and target/bench/consumer.json)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- consumer $(BENCH)

bench-generator: setup ## Compare event-generator with Kafka's and librdkafka's producers (target/bench/generator.json)
	cargo build --release --locked -p event-generator -p bench
	cargo run --release --locked -p bench -- generator $(BENCH)

bench-peers: setup ## Compare kafka-consumer with other ways from Kafka to PostgreSQL, and what faults do to each (an hour)
	@scripts/setup psql
	@scripts/setup peers
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- peers $(BENCH)

bench-day: setup ## A day of events through everything at once, then reconcile (target/bench/day.json)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- day $(BENCH)

bench-growth: setup ## What an event costs with more events, rows, consumers, bytes (30 GB of disk, three quarters of an hour)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- growth $(BENCH)

flame-graphs: setup ## Draw where the time of each program goes into docs/flame-*.svg
	@scripts/setup psql
	@scripts/setup flame
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- flame $(BENCH)

# Where one of them takes longer than before, this says so on any machine, however busy.
bench-check: packages ## Count the instructions of each step of an event's way and compare them with the baseline
	@scripts/setup valgrind
	cargo run --release --locked -p bench -- check $(BENCH)

bench-steps: packages ## Measure each step of an event's way by the clock
	cargo bench --locked -p bench --bench hot_path -- $(BENCH)

# CA_BUNDLE=FILE names certificates to trust meanwhile, beyond those of the web.
images: ## Build the container images event-pipeline/event-generator and event-pipeline/kafka-consumer
	for program in event-generator kafka-consumer; do \
		DOCKER_BUILDKIT=1 docker build --target $$program --tag event-pipeline/$$program \
			--build-arg REVISION=$$(git rev-parse HEAD) $${CA_BUNDLE:+--secret id=ca_bundle,src=$$CA_BUNDLE} . || exit; \
	done

sbom: packages ## List what the programs are made of, C libraries too, into target/sbom (CycloneDX)
	@scripts/setup sbom
	cargo build --release --locked -p event-generator -p kafka-consumer
	@scripts/sbom

bench-refine: setup ## Measure what a refinement costs after new rows, by the size of the table (8 GB of disk, half an hour)
	cargo build --release --locked -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- refine $(BENCH)

test-pgbouncer: setup ## Tests against PgBouncer, which has to be installed (apt-get install pgbouncer)
	cargo test --locked -p kafka-consumer --test pgbouncer -- --include-ignored

format: ## Format the code
	cargo fmt --all

schema: packages ## Write docs/product-event.schema.json anew from the event's definition
	UPDATE_SCHEMA=1 cargo test --locked -p event-model --test forms the_committed_json_schema

diagram: architecture_diagram.png ## Draw architecture_diagram.png from its text (needs graphviz)

architecture_diagram.png: docs/architecture.dot
	neato -n2 -Tpng -o $@ $<
