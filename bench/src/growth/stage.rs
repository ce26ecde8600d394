//! Servers, and topics that come and go.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_stack::Stack;
use tempfile::TempDir;

use crate::caught_up::catch_up;
use crate::programs::{self, empty, migrate, number, ours, psql, settle, succeed};
use crate::run::Run;
use crate::usage;
use crate::watched::Watched;

const LOOK: Duration = Duration::from_millis(50);
/// For a vacuum of what was just filled in.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) struct Stage {
    pub(crate) stack: Stack,
    files: TempDir,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let stack = Stack::ephemeral().expect("servers, which `make setup` installs");
        migrate(&stack.database_url());
        Self { stack, files: tempfile::tempdir().unwrap() }
    }

    /// Publishes events to a topic of six partitions.
    pub(crate) fn generate(&self, topic: &str, events: u64, more: &[&str]) -> Run {
        let mut command = ours("event-generator");
        command.args(["run", "--no-lake", "--rate", "max", "--log-format", "json", "-q", "--topic", topic]);
        command.args(["--count", &events.to_string(), "--bootstrap-servers", &self.stack.bootstrap_servers()]);
        let kafka = || self.stack.kafka.pid().map_or(0.0, usage::cpu_seconds);
        let before = kafka();
        let usage = Watched::start(command.args(more).stdout(Stdio::null())).wait();
        Run { server_cpu_seconds: kafka() - before, ..Run::of(events, &usage) }
    }

    /// One consumer, from the topic's beginning to its end.
    pub(crate) fn catch_up(&self, topic: &str) -> Run {
        let before = usage::postgres_seconds(&self.stack);
        let run = catch_up(self.consumer(topic, topic).arg("--until-caught-up"));
        Run { server_cpu_seconds: usage::postgres_seconds(&self.stack) - before, ..run }
    }

    /// A member of a group, which reads on until it is stopped.
    pub(crate) fn consumer(&self, group: &str, topic: &str) -> Command {
        let mut command = programs::consumer(&self.stack, group, topic);
        command.stdout(Stdio::null());
        command
    }

    pub(crate) fn remove(&self, topic: &str) {
        let servers = self.stack.bootstrap_servers();
        let arguments = ["--bootstrap-server", &servers, "--delete", "--topic", topic];
        succeed(&mut self.stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments));
    }

    /// An empty table, and nothing left to write to disk.
    pub(crate) fn clear(&self) {
        empty(&self.stack.database_url());
        settle();
    }

    /// Waits until no automatic vacuum is busy with what came before, and the disk has it.
    pub(crate) fn await_vacuum(&self) {
        let (began, url) = (Instant::now(), self.stack.database_url());
        while number(&url, "SELECT count(*) FROM pg_stat_progress_vacuum") > 0 && began.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        succeed(&mut psql(&url, "CHECKPOINT"));
        settle();
    }

    pub(crate) fn start(&self, command: &mut Command, log: &str) -> Watched {
        Watched::start(command.stderr(File::create(self.log(log)).unwrap()))
    }

    pub(crate) fn said(&self, log: &str) -> String {
        std::fs::read_to_string(self.log(log)).unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}
