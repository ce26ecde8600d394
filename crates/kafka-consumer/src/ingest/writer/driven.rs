//! A writer that a test drives by commands, without a source. It requires the feature `failpoints`.

use std::sync::Arc;

use ingest_protocol::attempts::Attempts;
use ingest_protocol::position::Position;
use pg_conninfo::Conninfo;
use pipeline_runtime::kafka::Connection;
use rdkafka::config::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::ingest::batch::OpenBatch;
use crate::ingest::messages::{Command, Report};
use crate::ingest::writer::dead_letter_limit::DeadLetterLimit;
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::probe::Probe;
use crate::ingest::writer::{Writer, WriterConfig};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::observability::health::Health;

/// A running writer. Dropping it ends the writer like a kill of its process: the server keeps the transaction until it
/// notices the closed connection.
#[derive(Debug)]
pub struct DrivenWriter {
    commands: mpsc::UnboundedSender<Command>,
    reports: mpsc::UnboundedReceiver<Report>,
    probe: Probe,
    tasks: [JoinHandle<()>; 2],
}

impl DrivenWriter {
    /// Starts a writer without partitions. `name` is the application name of its sessions.
    #[must_use]
    pub fn start(target: &Conninfo, name: &str, group: &str, topic: &str, bootstrap_servers: &str) -> Self {
        let connection = Connection::default();
        let mut kafka = ClientConfig::new();
        kafka.set("bootstrap.servers", bootstrap_servers).set("group.id", group);
        let setting = WriterConfig {
            target: target.named(name),
            group_topic: GroupTopic { group: group.to_owned(), topic: topic.to_owned() },
            number: 1,
            counters: Arc::default(),
            health: Arc::new(Health::new(connection.clone())),
            limiter: DeadLetterLimiter::new(DeadLetterLimit { maximum: u64::MAX, window: 1, allowance: 0 }),
            record_lookup: RecordLookup::new(&kafka, topic, &connection),
            give_up: tokio_util::sync::CancellationToken::new(),
        };
        let (reporter, reports) = mpsc::unbounded_channel();
        let (commands, mut queued) = mpsc::unbounded_channel();
        let (command, inbox) = mpsc::channel(1);
        let writer = Writer::new(setting, reporter);
        let probe = writer.probe.clone();
        // The channel of the writer holds one command. The test must not wait for the writer.
        let queue = async move {
            while let Some(next) = queued.recv().await {
                if command.send(next).await.is_err() {
                    return;
                }
            }
        };
        let run = async move {
            if let Err(error) = writer.run(inbox).await {
                tracing::error!(%error, "writer ended");
            }
        };
        Self { commands, reports, probe, tasks: [tokio::spawn(queue), tokio::spawn(run)] }
    }

    /// Transfers a partition to the writer.
    pub fn own(&self, partition: i32, epoch: u64, position: Position) {
        self.send(Command::Own { partition, epoch, position });
    }

    /// Takes partitions from the writer. The receiver is answered once the writer has executed this and all earlier
    /// commands.
    #[must_use]
    pub fn release(&self, partitions: Vec<i32>) -> oneshot::Receiver<()> {
        let (done, executed) = oneshot::channel();
        self.send(Command::Release { partitions, done });
        executed
    }

    /// Closes a batch and hands it over.
    pub fn write(&self, batch: OpenBatch) {
        self.send(Command::Write(batch.close()));
    }

    /// Returns the state of the batch before the last attempt.
    #[must_use]
    pub fn attempts(&self) -> Option<Attempts> {
        self.probe.attempts()
    }

    /// Ends the wait for an answer of PostgreSQL, as if its limit had passed.
    pub fn time_out(&self) {
        self.probe.time_out();
    }

    /// Returns the partitions that were reported as moved by another consumer since the last call, with their epochs.
    pub fn moved(&mut self) -> Vec<(i32, u64)> {
        let reports = std::iter::from_fn(|| self.reports.try_recv().ok());
        let moved = |report| match report {
            Report::Moved { partition, epoch } => Some((partition, epoch)),
            Report::Committed { .. } | Report::Failed => None,
        };
        reports.filter_map(moved).collect()
    }

    fn send(&self, command: Command) {
        // A writer that has ended fails the wait for its next step.
        let _ = self.commands.send(command);
    }
}

impl Drop for DrivenWriter {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
