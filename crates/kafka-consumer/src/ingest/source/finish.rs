//! Final steps after the last record was read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::failpoint::{LEAVING, pass};
use crate::ingest::messages::Report;
use crate::ingest::source::caught_up::CaughtUp;
use crate::kafka::context::Context;

/// Commits offsets to Kafka's group. Only lag monitoring uses them: the offsets in PostgreSQL decide. Errors are
/// logged.
pub(crate) fn commit(kafka: &BaseConsumer<Context>, topic: &str, offsets: &mut BTreeMap<i32, i64>, mode: CommitMode) {
    if offsets.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, next) in std::mem::take(offsets) {
        if let Err(error) = list.add_partition(topic, partition).set_offset(Offset::Offset(next)) {
            tracing::warn!(%error, partition, "offset not committed to kafka");
        }
    }
    if let Err(error) = kafka.commit(&list, mode) {
        tracing::warn!(%error, "offsets not committed to kafka");
    }
}

/// Source that has stopped reading, kept until the writers have committed its records.
pub(crate) struct FinishedSource {
    pub(crate) kafka: Arc<BaseConsumer<Context>>,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
    pub(crate) committed: BTreeMap<i32, i64>,
    pub(crate) topic: String,
    /// Progress at the time of a shutdown request, for a run with `--until-caught-up`.
    pub(crate) interrupted: Option<Interrupted>,
}

/// Progress of a run with `--until-caught-up` that was asked to stop.
pub(crate) struct Interrupted {
    pub(crate) progress: CaughtUp,
    /// No change of the assignment was pending.
    pub(crate) settled: bool,
}

impl FinishedSource {
    /// Fails if the run was stopped before it was caught up. The caller waits for the writers first, so that their last
    /// commits count.
    pub(crate) fn caught_up(&mut self) -> anyhow::Result<()> {
        while let Ok(report) = self.reports.try_recv() {
            let progress = self.interrupted.as_mut().map(|interrupted| &mut interrupted.progress);
            match (report, progress) {
                (Report::Committed { offsets }, progress) => {
                    if let Some(progress) = progress {
                        for (partition, next) in &offsets {
                            progress.committed(*partition, *next);
                        }
                    }
                    self.committed.extend(offsets);
                }
                (Report::Moved { partition, .. }, Some(progress)) => progress.dropped(partition),
                (Report::Moved { .. } | Report::Failed, _) => {}
            }
        }
        match &self.interrupted {
            None => Ok(()),
            Some(Interrupted { settled: false, .. }) => {
                bail!("stopped before catching up: partitions were being assigned; run the same command again")
            }
            Some(Interrupted { progress, .. }) if progress.is_done() => Ok(()),
            Some(Interrupted { progress, .. }) => {
                bail!("stopped before catching up: {progress}; run the same command again")
            }
        }
    }

    /// Commits the last offsets to Kafka's group and leaves it. Returns false if Kafka does not answer within the
    /// timeout; the membership then lasts until the session expires.
    #[must_use]
    pub(crate) fn leave(mut self, timeout: Duration) -> bool {
        // librdkafka closes the client only after the answer to the commit, so one timeout covers both.
        commit(&self.kafka, &self.topic, &mut self.committed, CommitMode::Async);
        pass(LEAVING);
        self.kafka.context().close(&self.kafka, timeout)
    }
}
