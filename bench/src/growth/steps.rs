//! Steps shared by the growth measurements.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::caught_up::catch_up;
use crate::environment::Environment;
use crate::programs::{empty, number, psql, settle, succeed};
use crate::run::Run;
use crate::watched::Watched;

const LOOK: Duration = Duration::from_millis(50);
/// Deadline for a vacuum of newly inserted rows.
const TIMEOUT: Duration = Duration::from_mins(5);

impl Environment {
    /// Publishes events to a topic of six partitions.
    pub(super) fn publish(&self, topic: &str, events: u64, more: &[&str]) -> Run {
        let mut command = self.generator(topic, events);
        let before = self.kafka_seconds();
        let usage = Watched::start(command.args(["--no-lake", "-q"]).args(more).stdout(Stdio::null())).wait();
        Run { server_cpu_seconds: self.kafka_seconds() - before, ..Run::of(events, &usage) }
    }

    /// Inserts the events of a topic with one consumer, from its beginning to its end.
    pub(super) fn catch_up(&self, topic: &str) -> Run {
        let before = self.postgres_seconds();
        let run = catch_up(self.consumer(topic, topic).arg("--until-caught-up").stdout(Stdio::null()));
        Run { server_cpu_seconds: self.postgres_seconds() - before, ..run }
    }

    /// Inserts the events of a topic without measuring it.
    ///
    /// A new PostgreSQL cluster creates its WAL segments during its first load. Later loads recycle them.
    pub(super) fn warm_up(&self, topic: &str) {
        self.catch_up(topic);
        self.clear();
    }

    /// Empties the table and flushes the disk.
    pub(super) fn clear(&self) {
        empty(&self.stack.database_url());
        settle();
    }

    /// Waits until no vacuum is running, then writes a checkpoint and flushes the disk. Earlier rows would otherwise
    /// distort the measurement.
    pub(super) fn await_vacuum(&self) {
        let (began, url) = (Instant::now(), self.stack.database_url());
        while number(&url, "SELECT count(*) FROM pg_stat_progress_vacuum") > 0 && began.elapsed() < TIMEOUT {
            thread::sleep(LOOK);
        }
        succeed(&mut psql(&url, "CHECKPOINT"));
        settle();
    }
}
