//! Servers, topics, an empty warehouse, and the same rows as files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::dump;
use crate::environment::Environment;
use crate::programs::{TABLE, make_partitions, succeed};

/// Topic without duplicates.
pub(crate) const TOPIC: &str = "product-events";
/// Topic in which 1% of the events are duplicates.
pub(crate) const TOPIC_WITH_DUPLICATES: &str = "product-events-with-duplicates";
/// Topic for several consumers, created on demand.
pub(crate) const TOPIC_OF_SIXTEEN: &str = "product-events-in-16-partitions";

/// Common environment of all candidates.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    pub(crate) events: u64,
    consumer_flags: Vec<String>,
}

impl Stage {
    pub(crate) fn set(events: u64, consumer_flags: &[String]) -> Self {
        let stage = Self { environment: Environment::start(), events, consumer_flags: consumer_flags.to_vec() };
        stage.generate(TOPIC, "plain", &[]);
        stage.generate(TOPIC_WITH_DUPLICATES, "doubled", &["--fault", "duplicate=1%"]);
        let stack = &stage.environment.stack;
        let dumped = dump::write(&stack.bootstrap_servers(), TOPIC, events, &stage.csv(), &stage.binary());
        make_partitions(&stack.database_url(), &dumped.days);
        stage
    }

    /// Loads the rows without measuring it. The next candidate truncates the table.
    ///
    /// A new PostgreSQL cluster creates its WAL segments during its first load. Later loads recycle them.
    pub(crate) fn warm_up(&self) {
        succeed(&mut self.copy_in(&self.binary(), "binary"));
    }

    /// Fills the topic of 16 partitions with as many events.
    pub(crate) fn fill_sixteen(&self) {
        self.environment.create_topic(TOPIC_OF_SIXTEEN, 16);
        self.generate(TOPIC_OF_SIXTEEN, "sixteen", &[]);
    }

    fn generate(&self, topic: &str, run: &str, more: &[&str]) {
        let mut command = self.environment.generator(topic, self.events);
        succeed(command.args(["--no-lake", "--seed", "7", "--run-id", run]).args(more));
    }

    /// Returns a consumer that is the only member of its group and reads the topic from its beginning to its end.
    pub(crate) fn consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = self.live_consumer(group, topic);
        command.arg("--until-caught-up");
        command
    }

    /// Returns a member of a group that runs until it is stopped.
    pub(crate) fn live_consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = self.environment.consumer(group, topic);
        command.args(&self.consumer_flags).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn copy_in(&self, file: &Path, format: &str) -> Command {
        dump::copy_in(&self.environment.stack.database_url(), TABLE, file, format)
    }

    pub(crate) fn csv(&self) -> PathBuf {
        self.environment.file("events.csv")
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.environment.file("events.bin")
    }
}
