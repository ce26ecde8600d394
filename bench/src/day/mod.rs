//! Measures a day of events: `event-generator` and `kafka-consumer` run side by side with Kafka, PostgreSQL and S3, all
//! with default settings.
//!
//! The time runs from the start of the generator to the commit of the last row. Afterwards `reconcile` accounts for
//! every event.

pub(crate) mod stage;

use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{CellAlignment, Table};
use pipeline_runtime::units;
use serde_json::{Map, Value, json};

use crate::programs::{keep, settle, summary};
use crate::spread::Spread;
use crate::usage::{self, Usage};
use crate::watched::Watched;
use stage::Stage;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of events, such as 10M
    #[arg(long, default_value_t = 10_000_000, value_parser = units::count::<u64>)]
    events: u64,
    /// Number of rounds
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Flags of event-generator, after --
    #[arg(last = true)]
    generator: Vec<String>,
}

/// Resources used by one process.
struct Share {
    process: &'static str,
    cpu_seconds: f64,
    peak_memory_kib: Option<u64>,
}

/// Rounds of the same day.
pub(crate) struct Rounds {
    /// Round whose time is closest to the median.
    typical: Day,
    pub(crate) seconds: Spread,
    pub(crate) cpu_micros: Spread,
}

struct Day {
    events: u64,
    elapsed: Duration,
    /// Time until the generator has published all events and exited.
    published: Duration,
    shares: Vec<Share>,
    reconcile: Usage,
}

/// Prints a table and writes `target/bench/day.json`. Fails if `reconcile` finds a difference.
pub(crate) fn run(arguments: &Arguments) {
    let rounds = measure(arguments.events, &arguments.generator, arguments.rounds, 0);
    println!("{}", rounds.table());
    keep("day", &rounds.json());
}

/// Measures a day several times. Each round has new servers, warmed up with `warm_up` other events. Fails if
/// `reconcile` finds a difference.
pub(crate) fn measure(events: u64, generator_flags: &[String], rounds: usize, warm_up: u64) -> Rounds {
    let days = (1..=rounds).map(|round| one(events, generator_flags, round, warm_up)).collect();
    Rounds::of(days).expect("at least one round")
}

fn one(events: u64, generator_flags: &[String], round: usize, warm_up: u64) -> Day {
    let stage = Stage::set(events, generator_flags);
    if warm_up > 0 {
        stage.warm_up(warm_up);
    }
    settle();
    let consumer = Watched::start(&mut stage.consumer());
    stage.await_partitions();
    let (before, consumer_before) = (stage.servers(), usage::cpu_seconds(consumer.pid));
    let began = Instant::now();
    let generator = Watched::start(&mut stage.generator()).wait();
    let published = began.elapsed();
    let records = summary(&stage.environment.log("generator"))["records_acknowledged"].as_u64().unwrap();
    stage.await_records(records);
    let elapsed = began.elapsed();
    let (after, consumer_cpu) = (stage.servers(), usage::cpu_seconds(consumer.pid) - consumer_before);
    let consumer = consumer.stop();
    let reconcile = Watched::start(&mut stage.reconcile()).wait();
    let share = |process, cpu_seconds, peak_memory_kib| Share { process, cpu_seconds, peak_memory_kib };
    let day = Day {
        events,
        elapsed,
        published,
        shares: vec![
            share("event-generator", generator.cpu_seconds, Some(generator.peak_memory_kib)),
            share("kafka-consumer", consumer_cpu, Some(consumer.peak_memory_kib)),
            share("Kafka", after.kafka - before.kafka, None),
            share("PostgreSQL", after.postgres - before.postgres, None),
            share("S3", after.s3 - before.s3, None),
        ],
        reconcile,
    };
    eprintln!("round {round}: {:.1} s, {:.2} µs/event", day.elapsed.as_secs_f64(), day.micros(day.cpu_seconds()));
    day
}

impl Rounds {
    fn of(days: Vec<Day>) -> Option<Self> {
        let seconds = Spread::of(days.iter().map(|day| day.elapsed.as_secs_f64()))?;
        let cpu_micros = Spread::of(days.iter().map(|day| day.micros(day.cpu_seconds())))?;
        let distance = |day: &Day| (day.elapsed.as_secs_f64() - seconds.median).abs();
        let typical = days.into_iter().min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
        Some(Self { typical, seconds, cpu_micros })
    }

    fn table(&self) -> String {
        let (day, seconds) = (&self.typical, self.seconds);
        format!(
            "{} events in {} s, {:.0}/s; CPU {} µs/event\n{}",
            day.events,
            seconds.in_line(1),
            day.events_within(seconds.median),
            self.cpu_micros.in_line(2),
            day.table()
        )
    }

    pub(crate) fn json(&self) -> Value {
        let mut all = self.typical.json();
        all["seconds"] = json!(self.seconds.median);
        all["seconds_range"] = json!([self.seconds.min, self.seconds.max]);
        all["cpu_micros_per_event"] = json!(self.cpu_micros.median);
        all["cpu_micros_per_event_range"] = json!([self.cpu_micros.min, self.cpu_micros.max]);
        all
    }
}

impl Day {
    fn cpu_seconds(&self) -> f64 {
        self.shares.iter().map(|share| share.cpu_seconds).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    fn micros(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.events as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn events_within(&self, seconds: f64) -> f64 {
        self.events as f64 / seconds
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(["", "CPU s", "CPU µs/event", "peak MiB"]);
        let mut row = |name: &str, seconds: f64, kib: Option<u64>| {
            let mib = kib.map_or(String::new(), |kib| (kib / 1024).to_string());
            table.add_row([name, &format!("{seconds:.1}"), &format!("{:.2}", self.micros(seconds)), &mib]);
        };
        for share in &self.shares {
            row(share.process, share.cpu_seconds, share.peak_memory_kib);
        }
        row("total", self.cpu_seconds(), None);
        for column in 1..4 {
            table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
        }
        format!(
            "round of {:.1} s, published after {:.1} s\n{table}\nreconcile: no difference, {:.1} s, {} MiB",
            self.elapsed.as_secs_f64(),
            self.published.as_secs_f64(),
            self.reconcile.elapsed.as_secs_f64(),
            self.reconcile.peak_memory_kib / 1024,
        )
    }

    fn json(&self) -> Value {
        let process = |share: &Share| {
            let figures = json!({
                "cpu_micros_per_event": self.micros(share.cpu_seconds),
                "peak_memory_kib": share.peak_memory_kib,
            });
            (share.process.to_owned(), figures)
        };
        json!({
            "events": self.events,
            "seconds": self.elapsed.as_secs_f64(),
            "published_after_seconds": self.published.as_secs_f64(),
            "cpu_micros_per_event": self.micros(self.cpu_seconds()),
            "processes": self.shares.iter().map(process).collect::<Map<_, _>>(),
            "reconcile_seconds": self.reconcile.elapsed.as_secs_f64(),
            "reconcile_peak_memory_kib": self.reconcile.peak_memory_kib,
        })
    }
}
