//! What librdkafka tells the consumer from within a poll: the group's rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pipeline_runtime::kafka::Complaints;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

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

    /// From now on partitions are let go at once, since nobody asks for changes any more. Without this a consumer that
    /// is dropped would wait for ever for an answer to the group's last change.
    pub(super) fn close(&self, consumer: &BaseConsumer<Self>) {
        self.closing.store(true, Ordering::Release);
        let answered = consumer.assignment().and_then(|assigned| release(consumer, &assigned));
        tracing::debug!(?answered, "partitions released");
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
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assign(partitions),
            _ if self.closing.load(Ordering::Acquire) => {
                let released = release(consumer, list);
                tracing::debug!(?released, "partitions released while closing");
                return;
            }
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
