//! Compares `kafka-consumer` with other sinks from Kafka to PostgreSQL: the same events, one machine, one run.
//!
//! The other sinks are those that `scripts/setup peers` could fetch; their settings are in `bench/peers`. Each of them
//! writes to a plain table, once with `event_id` as its key and once without a key. `kafka-consumer` writes to its own
//! table, which is keyed and partitioned.
//!
//! All sinks are observed from outside in the same way. The time runs from the first block of the table until the last
//! row is visible, so it excludes the start-up. After each run the rows are compared with the events of the topic.
//!
//! - `sink`: the sinks and their command lines
//! - `stage`: servers, topics, tables and the expected rows
//! - `speed`, `crash`, `poison`: the measurements

mod crash;
mod keys;
mod poison;
mod sink;
mod speed;
mod stage;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use pipeline_runtime::units;
use serde_json::{Map, Value, json};

use crate::programs::keep;
use crate::report::{Form, Ratio, Report, What};
use keys::Keys::{self, Keyed, Keyless, Own};
use sink::{Candidate, Sink};
use stage::{Stage, Topic};

/// Flags of the comparison.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of events in the topic, such as 5M
    #[arg(long, default_value_t = 5_000_000, value_parser = units::count::<u64>)]
    events: u64,
    /// Number of measured rounds, in each of which every candidate runs once; the slowest one runs in the first only
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Run only this sink; repeatable
    #[arg(long = "only", value_enum)]
    only: Vec<Sink>,
    /// Measurements to run, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "speed,crash,poison")]
    measure: Vec<Measurement>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Rows per second, CPU time and memory
    Speed,
    /// Effect of kill -9 in the middle of the topic
    Crash,
    /// Effect of a record that cannot become a row
    Poison,
}

const OURS: Candidate = Candidate { sink: Sink::KafkaConsumer, keys: Own };

/// Returns all peers with such a table.
const fn peers(keys: Keys) -> [Candidate; 5] {
    [
        Candidate { sink: Sink::Bento, keys },
        Candidate { sink: Sink::Debezium, keys },
        Candidate { sink: Sink::Aiven, keys },
        Candidate { sink: Sink::PythonCopy, keys },
        Candidate { sink: Sink::PythonValues, keys },
    ]
}

const SAFE: &[Candidate] = &peers(Keyed);
const UNSAFE: &[Candidate] = &peers(Keyless);
const COPY: &[Candidate] = &[Candidate { sink: Sink::PsqlCopy, keys: Own }];
const COPY_INTO_A_PLAIN_TABLE: &[Candidate] = &[Candidate { sink: Sink::PsqlCopy, keys: Keyed }];

const RATIOS: &[Ratio<Candidate>] = &[
    Ratio { name: "ratio_to_best_safe_peer", one: OURS, others: SAFE, what: What::Speed },
    Ratio { name: "cpu_ratio_to_best_safe_peer", one: OURS, others: SAFE, what: What::Cpu },
    Ratio { name: "ratio_to_best_peer_without_a_key", one: OURS, others: UNSAFE, what: What::Speed },
    Ratio { name: "ratio_to_psql_copy_into_the_same_table", one: OURS, others: COPY, what: What::Speed },
    Ratio {
        name: "ratio_to_psql_copy_into_a_plain_table",
        one: OURS,
        others: COPY_INTO_A_PLAIN_TABLE,
        what: What::Speed,
    },
];

/// Prints tables and writes `peers.json`, `peers-crash.json` and `peers-poison.json` in `target/bench`.
pub(crate) fn compare(arguments: &Arguments) {
    let chosen = |sink: &Sink| arguments.only.is_empty() || arguments.only.contains(sink);
    let mut sinks = Vec::new();
    for sink in Sink::ALL.into_iter().filter(chosen) {
        match sink.missing() {
            None => sinks.push(sink),
            Some(what) => eprintln!("{sink} skipped: {what}"),
        }
    }
    let stage = Stage::set();
    stage.generate("product-events", "peers", arguments.events);
    let topic = stage.read_truth("product-events", arguments.events);
    let measures = |one| arguments.measure.contains(&one);
    if measures(Measurement::Speed) {
        speeds(&stage, &topic, &sinks, arguments.rounds);
    }
    sinks.retain(|sink| *sink != Sink::PsqlCopy);
    let candidates = || sinks.iter().flat_map(|sink| sink.candidates());
    if measures(Measurement::Crash) {
        let outcomes: Vec<_> = candidates().map(|one| (one.to_string(), crash::run(&stage, &topic, one))).collect();
        publish(
            "peers-crash",
            &["lost", "duplicate", "s to next row"],
            outcomes.iter().map(|(name, outcome)| (name.as_str(), outcome.cells(), outcome.json())),
        );
    }
    if measures(Measurement::Poison) {
        let poisons = poison::Poison::ALL;
        let topics = poisons.map(|poison| poison.pour(&stage));
        let outcomes: Vec<_> = candidates()
            .filter(|one| one.is_safe())
            .map(|one| (one.to_string(), topics.each_ref().map(|topic| poison::run(&stage, topic, one))))
            .collect();
        publish(
            "peers-poison",
            &poisons.map(poison::Poison::name),
            outcomes.iter().map(|(name, outcomes)| {
                (
                    name.as_str(),
                    outcomes.each_ref().map(ToString::to_string).to_vec(),
                    outcomes.iter().map(poison::Outcome::json).collect(),
                )
            }),
        );
    }
}

fn speeds(stage: &Stage, topic: &Topic, sinks: &[Sink], rounds: usize) {
    let form = Form { name: "peers", item: "row", server: "PostgreSQL", ratios: RATIOS };
    let mut report = Report::new(form, topic.rows());
    let candidates: Vec<Candidate> = sinks.iter().flat_map(|sink| sink.candidates()).collect();
    stage.warm_up();
    for round in 1..=rounds {
        for turn in 0..candidates.len() {
            // Rotates the order, so that another candidate runs first in each round.
            let candidate = candidates[(turn + round - 1) % candidates.len()];
            if round == 1 || candidate.sink != Sink::PythonValues {
                report.add(candidate, round, speed::run(stage, topic, candidate));
            }
        }
    }
    report.publish();
}

/// Prints a table and writes a JSON file.
fn publish<'a>(name: &str, columns: &[&str], rows: impl Iterator<Item = (&'a str, Vec<String>, Value)>) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(std::iter::once("").chain(columns.iter().copied()));
    let mut all = Map::new();
    for (candidate, cells, value) in rows {
        table.add_row(std::iter::once(candidate.to_owned()).chain(cells));
        all.insert(candidate.to_owned(), value);
    }
    println!("{table}");
    keep(name, &json!(all));
}
