//! Servers and files of a benchmark, and the command lines of our programs.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tempfile::TempDir;

use crate::programs::{migrate, ours};
use crate::usage;

/// Running servers with an empty warehouse.
pub(crate) struct Environment {
    pub(crate) stack: Stack,
    files: TempDir,
}

impl Environment {
    pub(crate) fn start() -> Self {
        let stack = Stack::ephemeral().expect("cannot start the servers; run 'make setup'");
        migrate(&stack.database_url());
        Self { stack, files: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Discards the standard output of a command and writes its log to a file.
    pub(crate) fn log_to_file(&self, command: &mut Command, name: &str) {
        command.stdout(Stdio::null()).stderr(File::create(self.file(name)).unwrap());
    }

    /// Reads the log of a command.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// Generates events at full speed, logging in JSON.
    pub(crate) fn generator(&self, topic: &str, events: u64) -> Command {
        let mut command = ours("event-generator");
        command.args(["run", "--rate", "max", "--log-format", "json", "--topic", topic]);
        command.args(["--count", &events.to_string(), "--bootstrap-servers", &self.stack.bootstrap_servers()]);
        command
    }

    /// Inserts events as a member of a group until it is stopped, logging in JSON.
    pub(crate) fn consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = ours("kafka-consumer");
        command.args(["run", "--create-topic", "--log-format", "json", "--group-id", group, "--topic", topic]);
        command.args(["--http-addr", "off"]);
        command.args(["--bootstrap-servers", &self.stack.bootstrap_servers()]);
        command.args(["--database-url", &self.stack.database_url()]);
        command
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.stack.bootstrap_servers());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let (admin, options) = (self.admin(), AdminOptions::new());
        let created = runtime().block_on(admin.create_topics([&topic], &options)).unwrap();
        created.into_iter().next().unwrap().unwrap();
    }

    pub(crate) fn delete_topic(&self, topic: &str) {
        let (admin, options) = (self.admin(), AdminOptions::new());
        let deleted = runtime().block_on(admin.delete_topics(&[topic], &options)).unwrap();
        deleted.into_iter().next().unwrap().unwrap();
    }

    /// Returns the CPU time of the broker so far, in seconds.
    pub(crate) fn kafka_seconds(&self) -> f64 {
        self.stack.kafka.pid().map_or(0.0, usage::cpu_seconds)
    }

    /// Returns the CPU time of the object store so far, in seconds.
    pub(crate) fn s3_seconds(&self) -> f64 {
        self.stack.object_store.pid().map_or(0.0, usage::cpu_seconds)
    }

    /// Returns the CPU time of all PostgreSQL processes so far, in seconds.
    pub(crate) fn postgres_seconds(&self) -> f64 {
        usage::postgres_seconds(&self.stack)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
