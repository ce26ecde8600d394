//! What is left to do when the last record was read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::Context;
use crate::failpoint::{LEAVING, pass};
use crate::writer::Report;

/// Kafka's group follows PostgreSQL; nothing depends on it.
pub(super) fn commit(kafka: &BaseConsumer<Context>, topic: &str, offsets: &mut BTreeMap<i32, i64>, mode: CommitMode) {
    if offsets.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, next) in std::mem::take(offsets) {
        if let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(next)) {
            tracing::warn!(%error, partition, "offset not told to the group");
        }
    }
    if let Err(error) = kafka.commit(&list, mode) {
        tracing::warn!(%error, "offsets not told to the group");
    }
}

/// A source that has read its last record, until the writers have brought everything in.
pub struct Finish {
    pub(super) kafka: Arc<BaseConsumer<Context>>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) committed: BTreeMap<i32, i64>,
    pub(super) topic: String,
}

impl Finish {
    /// Commits the last offsets to Kafka's group and leaves it. The writers must have ended. Returns false if Kafka does
    /// not answer within the timeout; the group then expires the session.
    #[must_use]
    pub fn leave(mut self, timeout: Duration) -> bool {
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Committed { offsets } = report {
                self.committed.extend(offsets);
            }
        }
        // librdkafka closes the client only after the answer to the commit, so one timeout covers both.
        commit(&self.kafka, &self.topic, &mut self.committed, CommitMode::Async);
        pass(LEAVING);
        self.kafka.context().close(&self.kafka, timeout)
    }
}
