//! Kafka to PostgreSQL, effectively once: see the library.

fn main() {
    pipeline_runtime::exit::run("no records are lost: the next run rereads uncommitted ones", kafka_consumer::cli::main)
}
