//! Servers, a topic with events, a warehouse, and the same rows as files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use local_stack::Stack;
use tempfile::TempDir;

use crate::dump::{self, COLUMNS};
use crate::programs::{ours, psql, succeed};

/// The topic whose events are all new.
pub(crate) const TOPIC: &str = "product-events";
/// The topic in which one event in a hundred comes twice.
pub(crate) const TOPIC_WITH_DUPLICATES: &str = "product-events-with-duplicates";
/// A topic for several consumers, made when it is needed.
pub(crate) const TOPIC_OF_SIXTEEN: &str = "product-events-in-16-partitions";
pub(crate) const TABLE: &str = "staging.product_events_raw";

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
        let mut migrate = ours("kafka-consumer");
        succeed(migrate.args(["migrate", "--database-url", &stage.stack.database_url()]));
        for day in dump::write(&stage.stack.bootstrap_servers(), TOPIC, events, &stage.csv(), &stage.binary()).days {
            succeed(&mut stage.psql(&format!("SELECT pipeline.ensure_partition(date '1970-01-01' + {day})")));
        }
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
        command.arg("--until-caught-up").stderr(Stdio::piped());
        command
    }

    /// A member of a group, which reads on until it is stopped.
    pub(crate) fn live_consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = ours("kafka-consumer");
        command.args(["run", "--log-format", "json", "--group-id", group, "--topic", topic, "--http-addr", "off"]);
        command.args(["--bootstrap-servers", &self.stack.bootstrap_servers()]);
        command.args(["--database-url", &self.stack.database_url()]).args(&self.consumer_flags);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn copy_in(&self, file: &Path, format: &str) -> Command {
        self.psql(&format!("\\copy {TABLE} ({COLUMNS}) FROM '{}' WITH (FORMAT {format})", file.display()))
    }

    pub(crate) fn psql(&self, query: &str) -> Command {
        let mut command = psql(&self.stack.database_url(), query);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn number(&self, query: &str) -> u64 {
        succeed(&mut self.psql(query)).trim().parse().unwrap()
    }

    /// An empty table, with its partitions, and nothing left to write to disk.
    pub(crate) fn clear(&self) {
        succeed(&mut self.psql(&format!("TRUNCATE {TABLE}")));
        succeed(&mut self.psql("CHECKPOINT"));
    }

    pub(crate) fn csv(&self) -> PathBuf {
        self.files.path().join("events.csv")
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.files.path().join("events.bin")
    }
}
