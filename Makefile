# `make` lists the common targets, `make help-all` all of them. CI runs the same targets.
# A target with `##` is common; one with `##+` appears in `make help-all` only.
.DEFAULT_GOAL := help
# Points at which tests stop or kill the programs. Only test builds have them.
FAILPOINTS := --features kafka-consumer/failpoints,event-generator/failpoints
# Flags of a benchmark: BENCH='--events 5000000 --rounds 3 --only consumer'
BENCH ?=
# Seed of make chaos; the same seed repeats the order of the faults.
SEED ?=
MINUTES ?= 10
# Of each fuzz target in make unit, a minute in all.
FUZZ_SECONDS ?= 6
# Of make demo; VERBOSE=1 prints its tables.
EVENTS ?= 1M
VERBOSE ?=
.PHONY: help help-all demo up down setup packages servers browser programs status logs psql test lint unit integration format \
	test-page model test-faults test-slow test-pgbouncer test-citus chaos fuzz latency bench-day bench-consumer bench-generator bench-peers \
	bench-growth bench-refine bench-check bench-steps flame-graphs build images sbom schema reference man diagram

# Prints the targets by group; a group is the text behind `##@`.
define LIST_TARGETS
/^##@ / { group = substr($$0, 5) }
/^[a-z-]+:.*##[+]? / && (all || !/##[+] /) {
    if (group) { print group; group = "" }
    target = $$0; sub(/:.*/, "", target)
    text = $$0; sub(/.*##[+]? /, "", text)
    printf "  %-16s %s\n", target, text
}
endef
export LIST_TARGETS

help:
	@awk "$$LIST_TARGETS" $(MAKEFILE_LIST)
	@echo "make help-all lists all targets: more tests, more benchmarks, generated files."

help-all:
	@awk -v all=1 "$$LIST_TARGETS" $(MAKEFILE_LIST)

##@ Start here

# The compiler and the download of the servers run at the same time.
demo: packages ## Run 1M events through the pipeline, verify each (EVENTS=20k)
	@$(MAKE) --no-print-directory -j2 servers programs PROGRAMS='$(PROGRAMS) verifier'
	@scripts/demo --events $(EVENTS) $(if $(VERBOSE),--verbose)

up: packages ## Start Kafka, PostgreSQL and S3, and build both programs
	@$(MAKE) --no-print-directory -j2 servers programs
	@cargo run --quiet --locked -p local-stack -- up

down: ## Stop the servers and keep their data
	@$(LOCAL_STACK) down

setup: packages servers ## Install system packages and the servers of the local stack

packages:
	@scripts/setup packages

servers: packages
	@scripts/setup servers

browser:
	@scripts/setup browser

PROGRAMS := event-generator kafka-consumer local-stack
programs: packages
	cargo build --locked $(PROGRAMS:%=-p %)

# Builds in a separate step, so that cargo shows its progress but not the command line that it runs.
LOCAL_STACK := cargo build --locked -p local-stack && cargo run --quiet --locked -p local-stack --

##@ Look

# Exit code 3 means that not all servers run. That is an answer, not an error of make.
status: ## Show the state of the servers
	@$(LOCAL_STACK) status || [ $$? -eq 3 ]

logs: ## Show the last lines of the servers' logs
	@$(LOCAL_STACK) logs

psql: ## Open the warehouse of the local stack in psql
	@scripts/setup psql
	@psql postgres://admin:admin@localhost:5433/warehouse

##@ Test

test: setup lint unit integration test-page ## Run all checks and tests except the slow ones

lint: packages ## Check formatting, code, scripts and deployment files
	@scripts/setup deploy
	scripts/check-deploy
	cargo fmt --all --check
	@scripts/check-features
	cargo clippy --workspace --all-targets --locked $(FAILPOINTS) -- -D warnings

unit: packages ## Run the tests that need no servers
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --workspace --locked $(FAILPOINTS) --lib --bins
	cargo test --workspace --locked $(FAILPOINTS) --doc
	cargo test --locked -p ingest-protocol --features mutants --test '*'

format: ## Format the code
	cargo fmt --all

integration: setup ##+ Run the tests against real servers, on free ports
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --exclude ingest-protocol --locked $(FAILPOINTS) --test '*'

test-page: setup browser ##+ Test the consumer's page in a browser
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test integration -- --ignored page::

model: packages ##+ Explore the protocol of the sink within large bounds
	cargo test --locked -p ingest-protocol --test explore -- --ignored --nocapture --test-threads 1

fuzz: packages ##+ Fuzz with libFuzzer (MINUTES=60 for each target)
	scripts/fuzz $(MINUTES)

test-faults: setup ##+ Run the slow fault tests: outages, kills, rebalances
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test faults -- --ignored --test-threads 2
	cargo test --locked -p event-generator --test generator -- --ignored --test-threads 2

test-slow: setup ##+ Add fields to a copy of the workspace and test them
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test integration -- --ignored --nocapture add_a_field::

test-citus: setup ##+ Test against a Citus cluster (CITUS_URL and CITUS_WORKERS; docs/citus.md)
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --locked -p kafka-consumer --features failpoints --test faults -- --include-ignored --nocapture --test-threads 1 citus::

test-pgbouncer: setup ##+ Test against PgBouncer (apt-get install pgbouncer)
	cargo test --locked -p kafka-consumer --test integration -- --include-ignored pgbouncer::

chaos: setup ##+ Inject random faults under load, verify (SEED=7 MINUTES=10)
	cargo build --locked -p chaos -p event-generator -p kafka-consumer $(FAILPOINTS)
	target/debug/chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES)

##@ Measure

bench-day: setup ## Measure a day of 10M events end to end (3 minutes)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- day $(BENCH)

bench-consumer: setup ## Compare kafka-consumer with psql \copy (5 minutes)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- consumer $(BENCH)

bench-generator: setup ## Compare event-generator with other producers (10 minutes)
	cargo build --release --locked -p event-generator -p bench
	cargo run --release --locked -p bench -- generator $(BENCH)

bench-peers: setup ##+ Compare kafka-consumer with other sinks (1 hour)
	@scripts/setup psql
	@scripts/setup peers
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- peers $(BENCH)

bench-growth: setup ##+ Measure the cost per event as data grows (45 minutes, 30 GB)
	@scripts/setup psql
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- growth $(BENCH)

bench-refine: setup ##+ Measure refine by the size of the table (30 minutes, 8 GB)
	cargo build --release --locked -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- refine $(BENCH)

latency: setup ##+ Measure the latency from event to row at 1,000 events/s
	cargo build --workspace --locked $(FAILPOINTS)
	cargo test --workspace --locked $(FAILPOINTS) --test integration -- --ignored --nocapture latency::

# Instruction counts do not depend on the load of the machine.
bench-check: packages ##+ Count instructions per step and compare with the baseline
	@scripts/setup valgrind
	cargo run --release --locked -p bench -- check $(BENCH)

bench-steps: packages ##+ Measure the time per step
	cargo bench --locked -p bench --bench hot_path -- $(BENCH)

flame-graphs: setup ##+ Draw docs/flame-*.svg, the processor time of both programs
	@scripts/setup psql
	@scripts/setup flame
	cargo build --release --locked -p event-generator -p kafka-consumer -p bench
	cargo run --release --locked -p bench -- flame $(BENCH)

##@ Build and release

build: packages ## Build all programs for development
	cargo build --workspace --locked

# CA_BUNDLE=FILE adds certificates to trust during the build.
images: ## Build the container images of both programs
	for program in event-generator kafka-consumer; do \
		DOCKER_BUILDKIT=1 docker build --target $$program --tag event-pipeline/$$program \
			--build-arg REVISION=$$(git rev-parse HEAD) $${CA_BUNDLE:+--secret id=ca_bundle,src=$$CA_BUNDLE} . || exit; \
	done

sbom: packages ## List the components of both programs in target/sbom
	@scripts/setup sbom
	cargo build --release --locked -p event-generator -p kafka-consumer
	@scripts/sbom

schema: packages ##+ Generate docs/product-event.schema.json
	UPDATE_SCHEMA=1 cargo test --locked -p event-model --test forms the_committed_json_schema

reference: packages ## Write docs/configuration.md from the command lines
	cargo run --locked -p command-reference -- markdown

man: packages ## Write man pages of both programs to target/man
	cargo run --locked -p command-reference -- man

diagram: architecture_diagram.png ##+ Draw architecture_diagram.png (needs graphviz)

architecture_diagram.png: docs/architecture.dot
	neato -n2 -Tpng -o $@ $<
