//! Compares `event-generator` with the producers that come with Kafka and librdkafka.
//!
//! Those producers send prepared bytes, whereas `event-generator` creates, validates and serializes each event. All are
//! idempotent, use `acks=all` and write to a new topic of six partitions. Times are those of whole processes, including
//! the start-up and the last acknowledgement.

mod candidates;
mod rdkafka_performance;
mod stage;

use clap::Args;
use pipeline_runtime::units;

use crate::report::{Form, Ratio, Report, What};
use candidates::Candidate;
use stage::Stage;

/// Flags of the comparison.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of events per run, such as 3M
    #[arg(long, default_value_t = 3_000_000, value_parser = units::count::<u64>)]
    events: u64,
    /// Number of measured rounds, in each of which every candidate runs once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Run only this candidate; repeatable
    #[arg(long = "only", value_enum)]
    only: Vec<Candidate>,
    /// Flags of event-generator, after --
    #[arg(last = true)]
    generator: Vec<String>,
}

/// Each candidate runs once with this part of the events before the first measured round.
const WARM_UP_PART: u64 = 5;

fn form() -> Form<Candidate> {
    use Candidate::{
        Both, KafkaOnly, KafkaOnlyWithoutHeaders, LakeOnly, ProducerPerformance, ProducerPerformanceLz4,
        ProducerPerformanceSmall, RdkafkaPerformance, RdkafkaPerformanceWithHeaders,
    };
    Form {
        name: "generator",
        item: "event",
        server: "servers",
        ratios: &[
            Ratio {
                name: "ratio_to_producer_performance",
                one: KafkaOnly,
                others: &[ProducerPerformance, ProducerPerformanceLz4, ProducerPerformanceSmall],
                what: What::Speed,
            },
            // Excludes lz4: the single payload compresses to almost nothing, unlike distinct events.
            Ratio {
                name: "ratio_to_rdkafka_performance",
                one: KafkaOnly,
                others: &[RdkafkaPerformance],
                what: What::Speed,
            },
            Ratio {
                name: "ratio_to_rdkafka_performance_with_headers",
                one: KafkaOnly,
                others: &[RdkafkaPerformanceWithHeaders],
                what: What::Speed,
            },
            Ratio {
                name: "ratio_to_rdkafka_performance_without_headers",
                one: KafkaOnlyWithoutHeaders,
                others: &[RdkafkaPerformance],
                what: What::Speed,
            },
            Ratio { name: "ratio_of_both_sinks_to_kafka_only", one: Both, others: &[KafkaOnly], what: What::Speed },
            Ratio { name: "ratio_of_both_sinks_to_lake_only", one: Both, others: &[LakeOnly], what: What::Speed },
        ],
    }
}

pub(crate) fn compare(arguments: &Arguments) {
    let Arguments { events, rounds, only, generator } = arguments;
    let chosen = |one: &Candidate| only.is_empty() || only.contains(one);
    let mut candidates: Vec<Candidate> = Candidate::ALL.into_iter().filter(chosen).collect();
    let peer = rdkafka_performance::build();
    if let Err(why) = &peer {
        eprintln!("rdkafka_performance skipped: {why}");
        candidates.retain(|one| !one.is_rdkafka_performance());
    }
    let mut stage = Stage::set(*events, generator, peer.ok());
    // Warm-up: a new broker is slow until its code is compiled.
    stage.events = (*events / WARM_UP_PART).max(1);
    for candidate in &candidates {
        candidate.run(&stage, 0);
    }
    stage.events = *events;
    let mut report = Report::new(form(), *events);
    for round in 1..=*rounds {
        candidates.rotate_left(1);
        for candidate in &candidates {
            report.add(*candidate, round, candidate.run(&stage, round));
        }
    }
    report.publish();
}
