//! Candidates of the comparison.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::ValueEnum;
use event_generator::pipeline::Block;

use super::stage::{PARTITIONS, Stage};
use crate::programs::{ours, settle};
use crate::run::Run;
use crate::usage;

/// A way to fill a topic or a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Candidate {
    ProducerPerformance,
    ProducerPerformanceLz4,
    ProducerPerformanceSmall,
    RdkafkaPerformance,
    RdkafkaPerformanceLz4,
    RdkafkaPerformanceWithHeaders,
    MakeOnly,
    LakeOnly,
    KafkaOnly,
    KafkaOnlyWithoutHeaders,
    Both,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ProducerPerformance => "ProducerPerformance",
            Self::ProducerPerformanceLz4 => "ProducerPerformance, lz4",
            Self::ProducerPerformanceSmall => "ProducerPerformance, 64 KiB",
            Self::RdkafkaPerformance => "rdkafka_performance",
            Self::RdkafkaPerformanceLz4 => "rdkafka_performance, lz4",
            Self::RdkafkaPerformanceWithHeaders => "rdkafka_performance, headers",
            Self::MakeOnly => "generate, validate; 1 thread",
            Self::LakeOnly => "event-generator, lake only",
            Self::KafkaOnly => "event-generator, Kafka only",
            Self::KafkaOnlyWithoutHeaders => "event-generator, no headers",
            Self::Both => "event-generator, both",
        })
    }
}

/// Headers like those of `event-generator`'s records.
const HEADERS: [&str; 2] = ["run=1b6985c34", "schema=1"];

/// Batch settings of a producer.
struct Batching {
    linger_ms: &'static str,
    batch_bytes: &'static str,
    compression: &'static str,
}

const LARGE: Batching = Batching { linger_ms: "50", batch_bytes: "262144", compression: "none" };
const LZ4: Batching = Batching { compression: "lz4", ..LARGE };
const SMALL: Batching = Batching { linger_ms: "5", batch_bytes: "65536", compression: "none" };

impl Batching {
    fn properties(&self) -> [String; 5] {
        let Self { linger_ms, batch_bytes, compression } = self;
        [
            "acks=all".to_owned(),
            "enable.idempotence=true".to_owned(),
            format!("linger.ms={linger_ms}"),
            format!("batch.size={batch_bytes}"),
            format!("compression.type={compression}"),
        ]
    }
}

impl Candidate {
    pub(crate) const ALL: [Self; 11] = [
        Self::ProducerPerformance,
        Self::ProducerPerformanceLz4,
        Self::ProducerPerformanceSmall,
        Self::RdkafkaPerformance,
        Self::RdkafkaPerformanceLz4,
        Self::RdkafkaPerformanceWithHeaders,
        Self::MakeOnly,
        Self::LakeOnly,
        Self::KafkaOnly,
        Self::KafkaOnlyWithoutHeaders,
        Self::Both,
    ];

    pub(crate) fn is_rdkafka_performance(self) -> bool {
        matches!(self, Self::RdkafkaPerformance | Self::RdkafkaPerformanceLz4 | Self::RdkafkaPerformanceWithHeaders)
    }

    pub(crate) fn run(self, stage: &Stage, round: usize) -> Run {
        let topic = format!("{self:?}-{round}");
        let mut command = match self {
            Self::MakeOnly => return make(stage),
            Self::ProducerPerformance => producer_performance(stage, &topic, &LARGE),
            Self::ProducerPerformanceLz4 => producer_performance(stage, &topic, &LZ4),
            Self::ProducerPerformanceSmall => producer_performance(stage, &topic, &SMALL),
            Self::RdkafkaPerformance => rdkafka_performance(stage, &topic, &LARGE, &[]),
            Self::RdkafkaPerformanceLz4 => rdkafka_performance(stage, &topic, &LZ4, &[]),
            Self::RdkafkaPerformanceWithHeaders => rdkafka_performance(stage, &topic, &LARGE, &HEADERS),
            Self::LakeOnly => generator(stage, &topic, &["--no-kafka"]),
            Self::KafkaOnly => generator(stage, &topic, &["--no-lake"]),
            Self::KafkaOnlyWithoutHeaders => generator(stage, &topic, &["--no-lake", "--no-headers"]),
            Self::Both => generator(stage, &topic, &[]),
        };
        stage.environment.create_topic(&topic, PARTITIONS);
        settle();
        let before = stage.server_cpu_seconds();
        let began = Instant::now();
        let usage = usage::watch(&mut command.stdout(Stdio::null()).spawn().unwrap(), began);
        assert!(usage.status.success(), "{self} failed: {command:?}");
        let server_cpu_seconds = stage.server_cpu_seconds() - before;
        let records = stage.records_of(&topic);
        assert!(self == Self::LakeOnly || records >= stage.events, "{self}: {records} records");
        stage.environment.delete_topic(&topic);
        Run { server_cpu_seconds, ..Run::of(stage.events, &usage) }
    }
}

/// Measures the work of one thread on each event before it is sent to Kafka or the lake.
fn make(stage: &Stage) -> Run {
    const BLOCK: u64 = 4_096;
    let me = std::process::id();
    let (began, before) = (Instant::now(), usage::cpu_seconds(me));
    let mut first = 0;
    while first < stage.events {
        let next = stage.events.min(first + BLOCK);
        std::hint::black_box(Block::generate(&stage.source, first..next, true));
        first = next;
    }
    let elapsed = began.elapsed();
    let cpu_seconds = usage::cpu_seconds(me) - before;
    Run { items: stage.events, elapsed, cpu_seconds, server_cpu_seconds: 0.0, peak_memory_kib: 0 }
}

fn generator(stage: &Stage, topic: &str, more: &[&str]) -> Command {
    let mut command = ours("event-generator");
    command.args(["run", "--rate", "max", "--log-format", "json", "-q", "--topic", topic]);
    command.args([
        "--count",
        &stage.events.to_string(),
        "--bootstrap-servers",
        &stage.environment.stack.bootstrap_servers(),
    ]);
    if !more.contains(&"--no-lake") {
        command.args(["--lake", &stage.environment.stack.lake_url()]);
        command.envs(stage.environment.stack.s3().variables());
    }
    command.args(more).args(&stage.generator_flags);
    command
}

fn producer_performance(stage: &Stage, topic: &str, batching: &Batching) -> Command {
    let (servers, events) = (stage.environment.stack.bootstrap_servers(), stage.events.to_string());
    let payload = stage.payload();
    let class = "org.apache.kafka.tools.ProducerPerformance";
    let mut arguments = vec!["--topic", topic, "--num-records", &events, "--throughput", "-1"];
    arguments.extend(["--payload-file", payload.to_str().unwrap(), "--bootstrap-server", &servers]);
    let properties = batching.properties();
    arguments.extend(properties.iter().flat_map(|property| ["--command-property", property]));
    stage.environment.stack.kafka.tool(class, &arguments)
}

/// Sends the same payload repeatedly, as large as the mean event.
fn rdkafka_performance(stage: &Stage, topic: &str, batching: &Batching, headers: &[&str]) -> Command {
    let mut command = Command::new(stage.rdkafka_performance.as_ref().expect("built"));
    command.args(["-P", "-q", "-t", topic, "-b", &stage.environment.stack.bootstrap_servers()]);
    command.args(["-s", &stage.event_bytes.to_string(), "-c", &stage.events.to_string()]);
    for property in batching.properties() {
        command.args(["-X", &property]);
    }
    command.args(headers.iter().flat_map(|header| ["-H", header]));
    command.args(["-X", "queue.buffering.max.messages=200000", "-X", "queue.buffering.max.kbytes=131072"]);
    command
}
