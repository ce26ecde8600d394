//! Kafka to PostgreSQL, effectively once: see the library.

fn main() {
    pipeline_runtime::exit::run(
        "no record is lost: the next start reads uncommitted records again",
        kafka_consumer::cli::main,
    )
}
