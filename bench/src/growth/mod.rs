//! Measures the cost of an event as the number of events, rows, consumers or bytes per record grows.

mod case;
mod group;
mod steps;

use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use event_model::Timestamp;
use serde_json::json;

use crate::day;
use crate::environment::Environment;
use crate::programs::{keep, settle};
use crate::report::{Form, Ratio, Report, What};
use case::Case;

const MILLION: u64 = 1_000_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Measurements to run, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "events,table,consumers,bytes")]
    measure: Vec<Measurement>,
    /// Number of rounds per case
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Millions of events through the whole pipeline
    #[arg(long, value_delimiter = ',', default_value = "1,3,10,30")]
    events: Vec<u64>,
    /// Millions of rows in the table before the measurement
    #[arg(long, value_delimiter = ',', default_value = "10,50,100")]
    rows: Vec<u64>,
    /// Millions of rows per day, which is one table partition
    #[arg(long, default_value_t = 10)]
    per_day: u64,
    /// Millions of events per round of the other measurements
    #[arg(long, default_value_t = 3)]
    batch: u64,
    /// Numbers of consumers that share a topic of six partitions
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    consumers: Vec<usize>,
    /// Bytes of padding per record
    #[arg(long, value_delimiter = ',', default_value = "0,1800")]
    padding: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// More events
    Events,
    /// Larger table
    Table,
    /// More consumers
    Consumers,
    /// Larger records
    Bytes,
}

/// Prints tables and writes `target/bench/growth-*.json`.
pub(crate) fn measure(arguments: &Arguments) {
    for measurement in &arguments.measure {
        match measurement {
            Measurement::Events => events(arguments),
            Measurement::Table => table(arguments),
            Measurement::Consumers => consumers(arguments),
            Measurement::Bytes => bytes(arguments),
        }
    }
}

fn events(arguments: &Arguments) {
    const WARM_UP: u64 = 3 * MILLION;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["events", "s", "events/s", "CPU µs/event"]);
    let mut results = Vec::new();
    for millions in &arguments.events {
        let rounds = day::measure(millions * MILLION, &[], arguments.rounds, WARM_UP);
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = (millions * MILLION) as f64 / rounds.seconds.median;
        table.add_row([
            format!("{millions} M"),
            rounds.seconds.cell(1),
            format!("{rate:.0}"),
            rounds.cpu_micros.cell(2),
        ]);
        results.push(rounds.json());
    }
    println!("{table}");
    keep("growth-events", &json!(results));
}

const TABLE: &[Ratio<Case>] = &[
    Ratio { name: "cpu_ratio_50M_to_10M", one: Case::Rows(50), others: &[Case::Rows(10)], what: What::Cpu },
    Ratio { name: "cpu_ratio_100M_to_10M", one: Case::Rows(100), others: &[Case::Rows(10)], what: What::Cpu },
    Ratio { name: "speed_ratio_100M_to_10M", one: Case::Rows(100), others: &[Case::Rows(10)], what: What::Speed },
];

/// Fills the table in chronological order up to now at `per_day` million rows a day, as live events would.
fn table(arguments: &Arguments) {
    const FILL: u64 = 10;
    let Arguments { rounds, per_day, batch, .. } = arguments;
    let mut report =
        Report::new(Form { name: "growth-table", item: "row", server: "PostgreSQL", ratios: TABLE }, batch * MILLION);
    let environment = Environment::start();
    let measured = u64::try_from(*rounds).unwrap() * batch;
    let mut levels = arguments.rows.clone();
    levels.sort_unstable();
    let all = levels.last().unwrap() + measured;
    let now = Timestamp::from_micros(micros(Duration::from_secs(now_seconds())));
    // Position of the next row, in millions of rows.
    let mut made = 0;
    let mut bring = |millions: u64| {
        let before = i64::try_from((all - made) * 86_400_000_000 / per_day).unwrap();
        let from = Timestamp::from_micros(now.micros() - before);
        let topic = format!("rows-{made}");
        let rate = format!("{per_day}M/day");
        environment.publish(&topic, millions * MILLION, &["--from", &from.to_string(), "--event-rate", &rate]);
        made += millions;
        settle();
        let run = environment.catch_up(&topic);
        environment.delete_topic(&topic);
        run
    };
    let mut rows = 0;
    for level in levels {
        while rows < level {
            let millions = FILL.min(level - rows);
            bring(millions);
            rows += millions;
        }
        for round in 1..=*rounds {
            environment.await_vacuum();
            report.add(Case::Rows(level), round, bring(*batch));
        }
        rows += measured;
    }
    report.publish();
}

const CONSUMERS: &[Ratio<Case>] = &[
    Ratio { name: "speed_of_2_to_1", one: Case::Consumers(2), others: &[Case::Consumers(1)], what: What::Speed },
    Ratio { name: "speed_of_3_to_1", one: Case::Consumers(3), others: &[Case::Consumers(1)], what: What::Speed },
];

fn consumers(arguments: &Arguments) {
    let form = Form { name: "growth-consumers", item: "row", server: "PostgreSQL", ratios: CONSUMERS };
    let events = arguments.batch * MILLION;
    let mut report = Report::new(form, events);
    let environment = Environment::start();
    environment.publish("shared", events, &[]);
    environment.warm_up("shared");
    for round in 1..=arguments.rounds {
        for members in &arguments.consumers {
            environment.clear();
            report.add(Case::Consumers(*members), round, group::share(&environment, "shared", *members, events));
        }
    }
    report.publish();
}

/// Measures both programs, one after the other.
fn bytes(arguments: &Arguments) {
    let events = arguments.batch * MILLION;
    let form = |name, server| Form { name, item: "event", server, ratios: &[] };
    let mut generator = Report::new(form("growth-bytes-generator", "Kafka"), events);
    let mut consumer = Report::new(form("growth-bytes-consumer", "PostgreSQL"), events);
    let environment = Environment::start();
    environment.publish("warm-up", events, &[]);
    environment.warm_up("warm-up");
    environment.delete_topic("warm-up");
    for round in 1..=arguments.rounds {
        for padding in &arguments.padding {
            let topic = format!("padding-{padding}-{round}");
            let made = environment.publish(&topic, events, &["--padding", &padding.to_string()]);
            generator.add(Case::Padding(*padding), round, made);
            environment.clear();
            consumer.add(Case::Padding(*padding), round, environment.catch_up(&topic));
            environment.delete_topic(&topic);
        }
    }
    generator.publish();
    consumer.publish();
}

fn now_seconds() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}
