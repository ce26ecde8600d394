//! Candidates of the comparison.

use std::fmt;
use std::process::Stdio;
use std::time::Instant;

use clap::ValueEnum;

use super::restless;
use super::stage::{Stage, TOPIC, TOPIC_WITH_DUPLICATES};
use crate::caught_up::catch_up;
use crate::programs::{TABLE, empty, number};
use crate::run::Run;
use crate::usage;

/// A way to get rows into PostgreSQL, or only out of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Candidate {
    CopyCsv,
    CopyBinary,
    Consumer,
    ConsumerWithDuplicates,
    RestlessGroup,
    KafkaOnly,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CopyCsv => "psql \\copy, CSV",
            Self::CopyBinary => "psql \\copy, binary",
            Self::Consumer => "kafka-consumer",
            Self::ConsumerWithDuplicates => "kafka-consumer, 1% duplicates",
            Self::RestlessGroup => "3 in turn, 16 partitions",
            Self::KafkaOnly => "Kafka ConsumerPerformance",
        })
    }
}

impl Candidate {
    pub(crate) const ALL: [Self; 6] = [
        Self::CopyCsv,
        Self::CopyBinary,
        Self::Consumer,
        Self::ConsumerWithDuplicates,
        Self::RestlessGroup,
        Self::KafkaOnly,
    ];

    pub(crate) fn run(self, stage: &Stage, round: usize) -> Run {
        let url = stage.environment.stack.database_url();
        empty(&url);
        let before = stage.environment.postgres_seconds();
        let mut run = match self {
            Self::CopyCsv => copy(stage, &stage.csv(), "csv"),
            Self::CopyBinary => copy(stage, &stage.binary(), "binary"),
            Self::Consumer => consume(stage, &format!("plain-{round}"), TOPIC),
            Self::ConsumerWithDuplicates => consume(stage, &format!("doubled-{round}"), TOPIC_WITH_DUPLICATES),
            Self::RestlessGroup => restless::consume(stage, &format!("restless-{round}")),
            Self::KafkaOnly => return read_only(stage),
        };
        run.server_cpu_seconds = stage.environment.postgres_seconds() - before;
        let rows = number(&url, &format!("SELECT count(*) FROM {TABLE}"));
        assert_eq!(rows, stage.events, "{self}: the table lacks rows");
        run
    }
}

fn copy(stage: &Stage, file: &std::path::Path, format: &str) -> Run {
    let began = Instant::now();
    let mut command = stage.copy_in(file, format);
    let mut psql = command.stderr(Stdio::inherit()).spawn().expect("cannot start psql; run 'scripts/setup psql'");
    let usage = usage::watch(&mut psql, began);
    assert!(usage.status.success(), "psql failed");
    Run::of(stage.events, &usage)
}

fn consume(stage: &Stage, group: &str, topic: &str) -> Run {
    catch_up(&mut stage.consumer(group, topic))
}

fn read_only(stage: &Stage) -> Run {
    let (servers, messages) = (stage.environment.stack.bootstrap_servers(), stage.events.to_string());
    let class = "org.apache.kafka.tools.ConsumerPerformance";
    let arguments =
        ["--bootstrap-server", &servers, "--topic", TOPIC, "--num-records", &messages, "--timeout", "60000"];
    let mut command = stage.environment.stack.kafka.tool(class, &arguments);
    let began = Instant::now();
    let usage = usage::watch(&mut command.stdout(Stdio::piped()).spawn().unwrap(), began);
    assert!(usage.status.success(), "ConsumerPerformance failed");
    Run::of(stage.events, &usage)
}
