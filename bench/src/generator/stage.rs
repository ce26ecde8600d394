//! Servers, and our events as a file.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;
use workload::Source;

use crate::programs::{ours, succeed};
use crate::usage;

const PARTITIONS: i32 = 6;
/// Lines of the file, which is sent again and again.
const PAYLOADS: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// What all candidates work on.
pub(crate) struct Stage {
    pub(crate) stack: Stack,
    pub(crate) events: u64,
    /// The mean size of an event's JSON.
    pub(crate) event_bytes: usize,
    pub(crate) source: Source,
    pub(crate) generator_flags: Vec<String>,
    pub(crate) rdkafka_performance: Option<PathBuf>,
    files: TempDir,
}

impl Stage {
    pub(crate) fn set(events: u64, generator_flags: &[String], rdkafka_performance: Option<PathBuf>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let sample = ["sample", "--number", &PAYLOADS.to_string(), "--seed", "7"];
        let payload = succeed(ours("event-generator").args(sample));
        fs::write(files.path().join("payload.jsonl"), &payload).unwrap();
        Self {
            stack: Stack::ephemeral().expect("servers, which `make setup` installs"),
            events,
            event_bytes: payload.len() / PAYLOADS - 1,
            source: source(),
            generator_flags: generator_flags.to_vec(),
            rdkafka_performance,
            files,
        }
    }

    pub(crate) fn payload(&self) -> PathBuf {
        self.files.path().join("payload.jsonl")
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.stack.bootstrap_servers());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub(crate) fn make_topic(&self, topic: &str) {
        let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let (admin, options) = (self.admin(), AdminOptions::new());
        let made = runtime().block_on(admin.create_topics([&topic], &options)).unwrap();
        made.into_iter().next().unwrap().unwrap();
    }

    pub(crate) fn remove_topic(&self, topic: &str) {
        let (admin, options) = (self.admin(), AdminOptions::new());
        let removed = runtime().block_on(admin.delete_topics(&[topic], &options)).unwrap();
        removed.into_iter().next().unwrap().unwrap();
    }

    pub(crate) fn records_of(&self, topic: &str) -> u64 {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let ends = (0..PARTITIONS).map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1);
        u64::try_from(ends.sum::<i64>()).unwrap()
    }

    /// Of Kafka and S3.
    pub(crate) fn server_cpu_seconds(&self) -> f64 {
        let servers = [self.stack.kafka.pid(), self.stack.object_store.pid()];
        servers.into_iter().flatten().map(usage::cpu_seconds).sum()
    }
}

/// The default world.
fn source() -> Source {
    let config = succeed(ours("event-generator").args(["run", "--print-config", "--seed", "7"]));
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    Source::new(serde_json::from_value(config["settings"].clone()).unwrap()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
