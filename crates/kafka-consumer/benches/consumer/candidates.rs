//! Who is compared.

use std::fmt;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::stage::{Stage, TABLE, TOPIC, TOPIC_WITH_DUPLICATES};
use crate::usage::{self, Usage};

/// A way to get rows into PostgreSQL, or only out of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Candidate {
    CopyCsv,
    CopyBinary,
    Consumer,
    ConsumerWithDuplicates,
    KafkaOnly,
}

/// What a run did and took.
pub(crate) struct Run {
    pub(crate) rows: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu_seconds: f64,
    pub(crate) postgres_cpu_seconds: f64,
    pub(crate) peak_memory_kib: u64,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn rows_a_second(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CopyCsv => "psql \\copy, CSV",
            Self::CopyBinary => "psql \\copy, binary",
            Self::Consumer => "kafka-consumer",
            Self::ConsumerWithDuplicates => "kafka-consumer, 1% doubled",
            Self::KafkaOnly => "Kafka ConsumerPerformance",
        })
    }
}

impl Candidate {
    pub(crate) const ALL: [Self; 5] =
        [Self::CopyCsv, Self::CopyBinary, Self::Consumer, Self::ConsumerWithDuplicates, Self::KafkaOnly];

    pub(crate) fn run(self, stage: &Stage, round: usize) -> Run {
        stage.clear();
        let postgres = stage.stack.postgres.pid().expect("PostgreSQL runs");
        let before = usage::cpu_seconds_of_family(postgres);
        let mut run = match self {
            Self::CopyCsv => copy(stage, &stage.csv(), "csv"),
            Self::CopyBinary => copy(stage, &stage.binary(), "binary"),
            Self::Consumer => consume(stage, &format!("plain-{round}"), TOPIC),
            Self::ConsumerWithDuplicates => consume(stage, &format!("doubled-{round}"), TOPIC_WITH_DUPLICATES),
            Self::KafkaOnly => return read_only(stage),
        };
        run.postgres_cpu_seconds = usage::cpu_seconds_of_family(postgres) - before;
        let rows = stage.number(&format!("SELECT count(*) FROM {TABLE}"));
        assert_eq!(rows, stage.events, "{self}: not every event is a row");
        run
    }
}

fn copy(stage: &Stage, file: &std::path::Path, format: &str) -> Run {
    let began = Instant::now();
    let mut command = stage.copy_in(file, format);
    let mut psql = command.stderr(Stdio::inherit()).spawn().expect("psql, which `scripts/setup psql` installs");
    let usage = usage::watch(&mut psql, began);
    assert!(usage.status.success(), "psql failed");
    run_of(stage.events, &usage)
}

fn consume(stage: &Stage, group: &str, topic: &str) -> Run {
    let began = Instant::now();
    let mut child = stage.consumer(group, topic).spawn().unwrap();
    let mut log = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let usage = usage::watch(&mut child, began);
    let log = reader.join().unwrap();
    assert!(usage.status.success(), "{log}");
    let summary = log.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "run ended").then_some(line)
    });
    let summary = summary.expect("a summary");
    let elapsed = Duration::from_secs_f64(summary["reading_seconds"].as_f64().unwrap());
    assert!(elapsed < usage.elapsed);
    let rows = summary["records"].as_u64().unwrap();
    Run { elapsed, ..run_of(rows, &usage) }
}

fn read_only(stage: &Stage) -> Run {
    let (servers, messages) = (stage.stack.bootstrap_servers(), stage.events.to_string());
    let class = "org.apache.kafka.tools.ConsumerPerformance";
    let arguments =
        ["--bootstrap-server", &servers, "--topic", TOPIC, "--num-records", &messages, "--timeout", "60000"];
    let mut command = stage.stack.kafka.tool(class, &arguments);
    let began = Instant::now();
    let usage = usage::watch(&mut command.stdout(Stdio::piped()).spawn().unwrap(), began);
    assert!(usage.status.success(), "ConsumerPerformance failed");
    run_of(stage.events, &usage)
}

fn run_of(rows: u64, usage: &Usage) -> Run {
    let Usage { elapsed, cpu_seconds, peak_memory_kib, .. } = *usage;
    Run { rows, elapsed, cpu_seconds, postgres_cpu_seconds: 0.0, peak_memory_kib }
}
