//! Servers, a topic with events, a warehouse, and the same rows as files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use local_stack::Stack;
use tempfile::TempDir;

use crate::dump;
use crate::programs::{TABLE, consumer, make_partitions, migrate, ours, succeed};

/// The topic whose events are all new.
pub(crate) const TOPIC: &str = "product-events";
/// The topic in which one event in a hundred comes twice.
pub(crate) const TOPIC_WITH_DUPLICATES: &str = "product-events-with-duplicates";
/// A topic for several consumers, made when it is needed.
pub(crate) const TOPIC_OF_SIXTEEN: &str = "product-events-in-16-partitions";

/// What all candidates work on.
pub(crate) struct Stage {
    pub(crate) stack: Stack,
    pub(crate) events: u64,
    consumer_flags: Vec<String>,
    files: TempDir,
}

impl Stage {
    pub(crate) fn set(events: u64, consumer_flags: &[String]) -> Self {
        let stack = Stack::ephemeral().expect("servers, which `make setup` installs");
        let files = tempfile::tempdir().unwrap();
        let stage = Self { stack, events, consumer_flags: consumer_flags.to_vec(), files };
        stage.generate(TOPIC, "plain", &[]);
        stage.generate(TOPIC_WITH_DUPLICATES, "doubled", &["--fault", "duplicate=1%"]);
        let url = stage.stack.database_url();
        migrate(&url);
        let dumped = dump::write(&stage.stack.bootstrap_servers(), TOPIC, events, &stage.csv(), &stage.binary());
        make_partitions(&url, &dumped.days);
        stage
    }

    /// Fills the topic of sixteen partitions, with the same events.
    pub(crate) fn fill_sixteen(&self) {
        let servers = self.stack.bootstrap_servers();
        let arguments = ["--bootstrap-server", &servers, "--create", "--topic", TOPIC_OF_SIXTEEN, "--partitions", "16"];
        succeed(&mut self.stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments));
        self.generate(TOPIC_OF_SIXTEEN, "plain", &[]);
    }

    fn generate(&self, topic: &str, run: &str, more: &[&str]) {
        let mut command = ours("event-generator");
        command.args(["run", "--no-lake", "--rate", "max", "--seed", "7", "--log-format", "json", "--run-id", run]);
        command.args(["--count", &self.events.to_string(), "--topic", topic]);
        command.args(["--bootstrap-servers", &self.stack.bootstrap_servers()]).args(more);
        succeed(&mut command);
    }

    /// The consumer as a group of its own, which reads the topic from its beginning to its end.
    pub(crate) fn consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = self.live_consumer(group, topic);
        command.arg("--until-caught-up");
        command
    }

    /// A member of a group, which reads on until it is stopped.
    pub(crate) fn live_consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = consumer(&self.stack, group, topic);
        command.args(&self.consumer_flags).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn copy_in(&self, file: &Path, format: &str) -> Command {
        dump::copy_in(&self.stack.database_url(), TABLE, file, format)
    }

    pub(crate) fn csv(&self) -> PathBuf {
        self.files.path().join("events.csv")
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.files.path().join("events.bin")
    }
}
