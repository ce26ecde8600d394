//! Servers, and a file of our events.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use workload::Source;

use crate::environment::Environment;
use crate::programs::{ours, succeed};

pub(crate) const PARTITIONS: i32 = 6;
/// Number of lines in the file, which is sent repeatedly.
const PAYLOADS: usize = 200_000;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Common environment of all candidates.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    pub(crate) events: u64,
    /// Mean size of an event's JSON in bytes.
    pub(crate) event_bytes: usize,
    pub(crate) source: Source,
    pub(crate) generator_flags: Vec<String>,
    pub(crate) rdkafka_performance: Option<PathBuf>,
}

impl Stage {
    pub(crate) fn set(events: u64, generator_flags: &[String], rdkafka_performance: Option<PathBuf>) -> Self {
        let environment = Environment::start();
        let sample = ["sample", "--number", &PAYLOADS.to_string(), "--seed", "7"];
        let payload = succeed(ours("event-generator").args(sample));
        fs::write(environment.file("payload.jsonl"), &payload).unwrap();
        Self {
            environment,
            events,
            event_bytes: payload.len() / PAYLOADS - 1,
            source: source(),
            generator_flags: generator_flags.to_vec(),
            rdkafka_performance,
        }
    }

    pub(crate) fn payload(&self) -> PathBuf {
        self.environment.file("payload.jsonl")
    }

    pub(crate) fn records_of(&self, topic: &str) -> u64 {
        let consumer: BaseConsumer = self.environment.client().create().unwrap();
        let ends = (0..PARTITIONS).map(|partition| consumer.fetch_watermarks(topic, partition, TIMEOUT).unwrap().1);
        u64::try_from(ends.sum::<i64>()).unwrap()
    }

    /// Returns the CPU time of Kafka and S3 so far, in seconds.
    pub(crate) fn server_cpu_seconds(&self) -> f64 {
        self.environment.kafka_seconds() + self.environment.s3_seconds()
    }
}

/// Returns the events of the default world.
fn source() -> Source {
    let config = succeed(ours("event-generator").args(["run", "--print-config", "--seed", "7"]));
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    Source::new(serde_json::from_value(config["settings"].clone()).unwrap()).unwrap()
}
