//! Servers and the command lines of the programs.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::Environment;
use crate::programs::{committed, empty, ours, succeed};

const RUN: &str = "day";
const GROUP: &str = "day";
const TOPIC: &str = "product-events";
/// Name of the run, the group and the topic of the warm-up.
const BEFORE: &str = "before";
const LOOK: Duration = Duration::from_millis(50);
/// Deadline for steps that usually take a second.
const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Stage<'a> {
    pub(crate) environment: Environment,
    events: u64,
    generator_flags: &'a [String],
}

/// CPU time of the servers so far, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Servers {
    pub(crate) kafka: f64,
    pub(crate) postgres: f64,
    pub(crate) s3: f64,
}

impl<'a> Stage<'a> {
    pub(crate) fn set(events: u64, generator_flags: &'a [String]) -> Self {
        Self { environment: Environment::start(), events, generator_flags }
    }

    /// Sends `events` other events through all programs and servers, and empties the table again. A new broker is slow
    /// until its code is compiled.
    pub(crate) fn warm_up(&self, events: u64) {
        succeed(&mut self.publish(BEFORE, BEFORE, events));
        succeed(self.environment.consumer(BEFORE, BEFORE).arg("--until-caught-up"));
        empty(&self.environment.stack.database_url());
    }

    pub(crate) fn servers(&self) -> Servers {
        Servers {
            kafka: self.environment.kafka_seconds(),
            postgres: self.environment.postgres_seconds(),
            s3: self.environment.s3_seconds(),
        }
    }

    pub(crate) fn generator(&self) -> Command {
        let mut command = self.publish(RUN, TOPIC, self.events);
        command.args(self.generator_flags);
        self.environment.log_to_file(&mut command, "generator");
        command
    }

    fn publish(&self, run: &str, topic: &str, events: u64) -> Command {
        let mut command = self.environment.generator(topic, events);
        command.args(["--run-id", run, "--seed", "7", "--lake", &self.environment.stack.lake_url()]);
        command.envs(self.environment.stack.s3().variables());
        command
    }

    pub(crate) fn consumer(&self) -> Command {
        let mut command = self.environment.consumer(GROUP, TOPIC);
        self.environment.log_to_file(&mut command, "consumer");
        command
    }

    /// Compares all stores with the manifest. The command exits with code 3 if they differ.
    pub(crate) fn reconcile(&self) -> Command {
        let mut command = ours("kafka-consumer");
        command.args(["reconcile", "--run", RUN, "--group-id", GROUP, "--topic", TOPIC, "--json"]);
        command.args([
            "--bootstrap-servers",
            &self.environment.stack.bootstrap_servers(),
            "--lake",
            &self.environment.stack.lake_url(),
        ]);
        command.args(["--database-url", &self.environment.stack.database_url()]).stdout(Stdio::null());
        command.envs(self.environment.stack.s3().variables());
        command
    }

    /// Waits until partitions are assigned to the consumer.
    pub(crate) fn await_partitions(&self) {
        let began = Instant::now();
        while !self.environment.log("consumer").contains("\"partitions assigned\"") {
            assert!(began.elapsed() < TIMEOUT, "{}", self.environment.log("consumer"));
            thread::sleep(LOOK);
        }
    }

    /// Waits until `records` records are committed. Fails if there is no progress until the deadline.
    pub(crate) fn await_records(&self, records: u64) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let committed = committed(&self.environment.stack, GROUP);
            if committed >= records {
                return;
            }
            if committed > before {
                (before, since) = (committed, Instant::now());
            }
            assert!(since.elapsed() < TIMEOUT, "{committed} of {records}\n{}", self.environment.log("consumer"));
            thread::sleep(LOOK);
        }
    }
}
