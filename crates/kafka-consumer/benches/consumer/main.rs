//! kafka-consumer beside what one would do by hand, with the same rows on the same machine: `psql \copy` of a CSV file and
//! of a binary file, each in one session, and Kafka's own `ConsumerPerformance`, which only reads.
//!
//! A round runs each once; the rounds follow each other, so that what else the machine does hits all alike. Rows a second
//! are those of the median round. Start-up is left out of the consumer's time: it counts from the first record to the last
//! commit, as its own summary says.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a development program fails by panicking")]

mod candidates;
mod dump;
mod report;
mod stage;
mod usage;

use clap::Parser;

use candidates::Candidate;
use report::Report;
use stage::Stage;

/// Compares kafka-consumer with psql's \copy.
#[derive(Parser)]
struct Arguments {
    /// Events in the topic.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// How often each candidate runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these candidates.
    #[arg(long = "only", value_enum)]
    only: Vec<Candidate>,
    /// Flags for kafka-consumer, after `--`.
    #[arg(last = true)]
    consumer: Vec<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let candidates: Vec<Candidate> =
        Candidate::ALL.into_iter().filter(|one| arguments.only.is_empty() || arguments.only.contains(one)).collect();
    let stage = Stage::set(arguments.events, &arguments.consumer);
    let mut report = Report::new(arguments.events);
    for round in 1..=arguments.rounds {
        for candidate in &candidates {
            let result = candidate.run(&stage, round);
            eprintln!("round {round}: {candidate:<28} {:>9.0} rows/s", result.rows_a_second());
            report.add(*candidate, result);
        }
    }
    println!("{report}");
    report.write_json();
}
