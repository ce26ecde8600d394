//! What librdkafka tells the consumer from within a poll: the group's rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::kafka::Complaints;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

/// Longest wait for a single event while the client is closed.
const CLOSING_POLL: Duration = Duration::from_millis(50);

/// A change of the assignment that the group has decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// These partitions are to be read.
    Assign(Vec<i32>),
    /// These are to be let go, in good order.
    Revoke(Vec<i32>),
    /// These belong to somebody else already.
    Lose(Vec<i32>),
}

/// Notes the group's changes. What is to be done about them takes PostgreSQL's answer, which a callback must not wait
/// for: the poll loop does it and then assigns.
#[derive(Debug, Default)]
pub struct Context {
    changes: Mutex<VecDeque<Change>>,
    closing: AtomicBool,
    complaints: Complaints,
    trouble: Mutex<Option<Instant>>,
}

impl Context {
    /// The next change, in the order in which they came.
    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// When the way to Kafka last failed.
    pub(super) fn last_trouble(&self) -> Option<Instant> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the group and closes the client. Returns false if that takes longer than the timeout.
    ///
    /// librdkafka waits for an answer to each change of the assignment, without a limit, and the poll loop has ended.
    /// [`rebalance`](ConsumerContext::rebalance) answers later changes, this function the one that was delivered before.
    /// The order matters: librdkafka treats every answer as a release only after it was told to close
    /// (`rd_kafka_cgrp_handle_assign_op`).
    pub(crate) fn close(&self, consumer: &BaseConsumer<Self>, timeout: Duration) -> bool {
        self.closing.store(true, Ordering::Release);
        if let Err(error) = consumer.close_queue() {
            // Already closed, or failed fatally, which closes it too.
            tracing::debug!(%error, "kafka client not closed again");
            return true;
        }
        let answered = consumer.unassign();
        tracing::debug!(?answered, "partitions released");
        let deadline = Instant::now() + timeout;
        while !consumer.closed() {
            if Instant::now() >= deadline {
                return false;
            }
            // Serves the rebalance; late records are dropped.
            drop(consumer.poll(CLOSING_POLL));
        }
        true
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.note(&error, reason);
    }

    /// A connection that is lost while it is in use is no error to librdkafka: it has a line in the log.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if matches!(facility, "FAIL" | "REQTMOUT") {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.complaints.log(level, facility, message);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let change = match error {
            _ if self.closing.load(Ordering::Acquire) => {
                let released = consumer.unassign();
                tracing::debug!(?released, "partitions released while closing");
                return;
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assign(partitions),
            _ if consumer.assignment_lost() => Change::Lose(partitions),
            _ => Change::Revoke(partitions),
        };
        tracing::debug!(?change, "rebalance");
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

/// Acknowledges a revocation: the partitions are no longer read.
pub(super) fn release(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}
