//! Compares `kafka-consumer` with loading the same rows by hand.
//!
//! - `psql \copy` loads a CSV file or a binary file in one session.
//! - `ConsumerPerformance`, which comes with Kafka, only reads.
//! - Three consumers that leave and join show the throughput of a group during rebalances.
//!
//! The consumer's time excludes its start-up. It runs from the first record to the last commit, as reported in its
//! summary.

mod candidates;
mod restless;
mod stage;

use clap::Args;
use pipeline_runtime::units;

use crate::report::{Form, Ratio, Report, What};
use candidates::Candidate;
use stage::Stage;

/// Flags of the comparison.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of events in the topic, such as 5M
    #[arg(long, default_value_t = 5_000_000, value_parser = units::count::<u64>)]
    events: u64,
    /// Number of measured rounds, in each of which every candidate runs once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Run only this candidate; repeatable
    #[arg(long = "only", value_enum)]
    only: Vec<Candidate>,
    /// Flags of kafka-consumer, after --
    #[arg(last = true)]
    consumer: Vec<String>,
}

fn form() -> Form<Candidate> {
    use Candidate::{Consumer, ConsumerWithDuplicates, CopyBinary, CopyCsv};
    Form {
        name: "consumer",
        item: "row",
        server: "PostgreSQL",
        ratios: &[
            Ratio { name: "ratio_to_psql_copy", one: Consumer, others: &[CopyCsv], what: What::Speed },
            Ratio { name: "ratio_to_psql_copy_binary", one: Consumer, others: &[CopyBinary], what: What::Speed },
            Ratio {
                name: "ratio_with_duplicates",
                one: ConsumerWithDuplicates,
                others: &[Consumer],
                what: What::Speed,
            },
        ],
    }
}

pub(crate) fn compare(arguments: &Arguments) {
    let Arguments { events, rounds, only, consumer } = arguments;
    let candidates: Vec<Candidate> =
        Candidate::ALL.into_iter().filter(|one| only.is_empty() || only.contains(one)).collect();
    let stage = Stage::set(*events, consumer);
    if candidates.contains(&Candidate::RestlessGroup) {
        stage.fill_sixteen();
    }
    stage.warm_up();
    let mut report = Report::new(form(), *events);
    for round in 1..=*rounds {
        for candidate in &candidates {
            report.add(*candidate, round, candidate.run(&stage, round));
        }
    }
    report.publish();
}
