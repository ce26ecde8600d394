//! The most expensive steps of the hot path, each measured separately and without servers.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use event_generator::validate::{Validated, validate};
use event_model::{Timestamp, Window, parse};
use kafka_consumer::{OpenBatch, RecordPosition};
use lake::SegmentBuilder;
use workload::{Effects, EventRate, Faults, Generated, Settings, Shape, Source, World};

/// Step of the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// event-generator: generate an event
    Make,
    /// event-generator: validate an event
    Validate,
    /// event-generator: write the value of a record
    WriteJson,
    /// event-generator: encode, compress and hash a file of the lake
    WriteParquet,
    /// kafka-consumer: parse and validate the value of a record
    Parse,
    /// kafka-consumer: add an event to its batch as a row of binary COPY
    AddRow,
    /// kafka-consumer: sort a batch of rows by key
    Sort,
}

/// Executes a step for all prepared events. The result has no meaning, but depends on all of them.
pub type Run = Box<dyn FnMut() -> usize>;

const PARTITIONS: usize = 6;
const WINDOW: Window = Window { past: Duration::from_hours(24), future: Duration::from_mins(5), present: None };

impl Step {
    /// All steps, in the order in which an event passes them.
    pub const ALL: [Self; 7] =
        [Self::Make, Self::Validate, Self::WriteJson, Self::WriteParquet, Self::Parse, Self::AddRow, Self::Sort];

    /// Returns the name of the step on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Prepares `events` events. Each call of the result executes the step once per event.
    #[must_use]
    pub fn prepare(self, events: u64) -> Run {
        // Leaked, because the closures need a static lifetime and a benchmark is short.
        let source: &'static Source = Box::leak(Box::new(source()));
        let made: Vec<Generated<'static>> = (0..events).map(|index| source.make(index)).collect();
        match self {
            Self::Make => Box::new(move || (0..events).map(|index| source.make(index).event.category.len()).sum()),
            Self::Validate => Box::new(move || made.iter().filter(|one| validate(one) == Validated::Valid).count()),
            Self::WriteJson => {
                let mut out = Vec::new();
                Box::new(move || {
                    out.clear();
                    for one in &made {
                        one.write_value(&mut out);
                    }
                    out.len()
                })
            }
            Self::WriteParquet => Box::new(move || write_parquet(&made)),
            Self::Parse => {
                let values = values(&made);
                Box::new(move || {
                    values.iter().filter(|(value, time)| parse(Some(value), *time, WINDOW).is_ok()).count()
                })
            }
            Self::AddRow => Box::new(move || fill(&made).is_full(&LIMITS).into()),
            Self::Sort => Box::new(move || fill(&made).close().sorted_rows().bytes.len()),
        }
    }
}

const LIMITS: kafka_consumer::Limits = kafka_consumer::Limits { rows: 1, bytes: 1, interval: Duration::from_secs(1) };

fn write_parquet(made: &[Generated<'_>]) -> usize {
    let mut segment = SegmentBuilder::new("bench".parse().unwrap(), 0, made.len());
    for one in made {
        segment.append(&one.event);
    }
    segment.finish().unwrap().raw.len()
}

fn values(made: &[Generated<'_>]) -> Vec<(Vec<u8>, Option<Timestamp>)> {
    let value = |one: &Generated<'_>| {
        let mut out = Vec::new();
        one.write_value(&mut out);
        (out, Some(one.due))
    };
    made.iter().map(value).collect()
}

fn fill(made: &[Generated<'_>]) -> OpenBatch {
    let mut batch = OpenBatch::new(Instant::now());
    for (place, one) in made.iter().enumerate() {
        let partition = i32::try_from(place % PARTITIONS).unwrap();
        let mark = RecordPosition { offset: i64::try_from(place).unwrap(), fingerprint: 0 };
        batch.add_row(partition, 1, mark, Some(one.due), &one.event);
    }
    batch
}

/// Returns the events of the default world from a fixed time on.
fn source() -> Source {
    let settings = Settings {
        seed: 7,
        world: World::default(),
        effects: Effects::new(&[]).unwrap(),
        faults: Faults::from_shares(&[]).unwrap(),
        event_rate: "10M/day".parse::<EventRate>().unwrap(),
        shape: Shape::Flat,
        padding: 0,
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        run_id: None,
    };
    Source::new(settings).unwrap()
}
