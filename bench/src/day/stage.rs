//! Servers, and what the programs are told about them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_stack::Stack;
use tempfile::TempDir;

use crate::programs::{committed, consumer, empty, migrate, ours, succeed};
use crate::usage;

const RUN: &str = "day";
const GROUP: &str = "day";
const TOPIC: &str = "product-events";
/// The name of a run, a group and a topic that come before.
const BEFORE: &str = "before";
const LOOK: Duration = Duration::from_millis(50);
/// For what takes a second.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Stage<'a> {
    stack: Stack,
    events: u64,
    generator_flags: &'a [String],
    files: TempDir,
}

/// Processor time of the servers so far, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Servers {
    pub(crate) kafka: f64,
    pub(crate) postgres: f64,
    pub(crate) s3: f64,
}

impl<'a> Stage<'a> {
    pub(crate) fn set(events: u64, generator_flags: &'a [String]) -> Self {
        let stack = Stack::ephemeral().expect("servers, which `make setup` installs");
        migrate(&stack.database_url());
        Self { stack, events, generator_flags, files: tempfile::tempdir().unwrap() }
    }

    /// Lets so many other events through everything, and empties the table again: a new broker's compiler is slow at first.
    pub(crate) fn warm_up(&self, events: u64) {
        succeed(&mut self.publish(BEFORE, BEFORE, events));
        succeed(consumer(&self.stack, BEFORE, BEFORE).arg("--until-caught-up"));
        empty(&self.stack.database_url());
    }

    pub(crate) fn servers(&self) -> Servers {
        let seconds = |pid: Option<u32>| pid.map_or(0.0, usage::cpu_seconds);
        Servers {
            kafka: seconds(self.stack.kafka.pid()),
            postgres: usage::postgres_seconds(&self.stack),
            s3: seconds(self.stack.object_store.pid()),
        }
    }

    pub(crate) fn generator(&self) -> Command {
        let mut command = self.publish(RUN, TOPIC, self.events);
        command.args(self.generator_flags);
        self.told(&mut command, "generator");
        command
    }

    fn publish(&self, run: &str, topic: &str, events: u64) -> Command {
        let mut command = ours("event-generator");
        command.args(["run", "--rate", "max", "--run-id", run, "--log-format", "json", "--topic", topic]);
        command.args(["--count", &events.to_string(), "--seed", "7", "--lake", &self.stack.lake_url()]);
        command.args(["--bootstrap-servers", &self.stack.bootstrap_servers()]);
        command.envs(self.stack.s3().variables());
        command
    }

    pub(crate) fn consumer(&self) -> Command {
        let mut command = consumer(&self.stack, GROUP, TOPIC);
        self.told(&mut command, "consumer");
        command
    }

    /// Compares all stores with the manifest; exit code 3 is a difference.
    pub(crate) fn reconcile(&self) -> Command {
        let mut command = ours("kafka-consumer");
        command.args(["reconcile", "--run", RUN, "--group-id", GROUP, "--topic", TOPIC, "--json"]);
        command.args(["--bootstrap-servers", &self.stack.bootstrap_servers(), "--lake", &self.stack.lake_url()]);
        command.args(["--database-url", &self.stack.database_url()]).stdout(Stdio::null());
        command.envs(self.stack.s3().variables());
        command
    }

    fn told(&self, command: &mut Command, name: &str) {
        command.stdout(Stdio::null()).stderr(File::create(self.log(name)).unwrap());
    }

    fn log(&self, name: &str) -> PathBuf {
        self.files.path().join(name).with_extension("log")
    }

    pub(crate) fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap()
    }

    /// Waits until the consumer has its partitions.
    pub(crate) fn await_partitions(&self) {
        let began = Instant::now();
        while !self.said("consumer").contains("\"partitions assigned\"") {
            assert!(began.elapsed() < PATIENCE, "{}", self.said("consumer"));
            thread::sleep(LOOK);
        }
    }

    /// Waits until so many records are committed.
    pub(crate) fn await_records(&self, records: u64) {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let committed = committed(&self.stack, GROUP);
            if committed >= records {
                return;
            }
            if committed > before {
                (before, since) = (committed, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "{committed} of {records}\n{}", self.said("consumer"));
            thread::sleep(LOOK);
        }
    }
}
