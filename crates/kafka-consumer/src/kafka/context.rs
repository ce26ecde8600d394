//! Receives the callbacks of librdkafka: rebalances, errors and log lines.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::kafka::{ClientErrors, Connection};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

/// Maximum wait for a single event while the client closes.
const CLOSING_POLL: Duration = Duration::from_millis(50);

/// A change of the assignment, decided by the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AssignmentChange {
    /// Partitions to read.
    Assign(Vec<i32>),
    /// Partitions to release, after their in-flight records are committed.
    Revoke(Vec<i32>),
    /// Partitions that already belong to another member.
    Lose(Vec<i32>),
}

/// Queues the assignment changes. Handling one takes a query to PostgreSQL, which a callback must not wait for, so the
/// poll loop handles it and then assigns.
#[derive(Debug, Default)]
pub(crate) struct Context {
    changes: Mutex<VecDeque<AssignmentChange>>,
    closing: AtomicBool,
    client_errors: ClientErrors,
    trouble: Mutex<Option<Instant>>,
}

/// Client of the consumer group.
pub(crate) type Kafka = Arc<BaseConsumer<Context>>;

impl Context {
    /// Returns a context that reports outages to the connection of the process.
    pub(crate) fn reporting_to(connection: &Connection) -> Self {
        Self { client_errors: ClientErrors::reporting_to(connection), ..Self::default() }
    }

    /// Returns the oldest change that is still queued.
    pub(crate) fn next_change(&self) -> Option<AssignmentChange> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Returns the time of the last lost connection or request timeout.
    pub(crate) fn last_trouble(&self) -> Option<Instant> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the group and closes the client. Returns false if that takes longer than the timeout.
    ///
    /// librdkafka waits for an answer to each assignment change, without a timeout, and the poll loop no longer
    /// answers. This function answers the change that was delivered before, and
    /// [`rebalance`](ConsumerContext::rebalance) answers later ones. The order of the calls matters: librdkafka treats
    /// every answer as a release only after it was told to close (`rd_kafka_cgrp_handle_assign_op`).
    pub(crate) fn close(&self, consumer: &BaseConsumer<Self>, timeout: Duration) -> bool {
        self.closing.store(true, Ordering::Release);
        if let Err(error) = consumer.close_queue() {
            // Already closed, or failed fatally, which also closes the client.
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
            // Serves the rebalance callback and drops late records.
            drop(consumer.poll(CLOSING_POLL));
        }
        true
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        self.client_errors.note(&error, reason);
    }

    /// librdkafka does not report a connection that is lost during use as an error, only as a log line.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if matches!(facility, "FAIL" | "REQTMOUT") {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.client_errors.log(level, facility, message);
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
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => AssignmentChange::Assign(partitions),
            _ if consumer.assignment_lost() => AssignmentChange::Lose(partitions),
            _ => AssignmentChange::Revoke(partitions),
        };
        tracing::debug!(?change, "rebalance");
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

/// Acknowledges a revocation: the client no longer reads these partitions.
pub(crate) fn release(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::thread;

    use rdkafka::config::{ClientConfig, FromClientConfigAndContext};

    use super::*;

    fn member(servers: &str) -> BaseConsumer<Context> {
        let mut config = ClientConfig::new();
        for (property, value) in [
            ("bootstrap.servers", servers),
            ("group.id", "closing"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("heartbeat.interval.ms", "500"),
        ] {
            config.set(property, value);
        }
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default()).unwrap();
        consumer.subscribe(&["events"]).unwrap();
        consumer
    }

    fn next_change(consumer: &BaseConsumer<Context>) -> AssignmentChange {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            drop(consumer.poll(CLOSING_POLL));
            match consumer.context().next_change() {
                Some(change) => return change,
                None => assert!(Instant::now() < deadline, "the group decides on nothing"),
            }
        }
    }

    /// Closes a second member, which first receives an empty assignment. librdkafka then has nothing to revoke, and
    /// waits for the answer to the empty assignment only. If `polled` is true, the member has received the assignment
    /// and closes before it answers.
    fn closes_with_an_empty_assignment(polled: bool) {
        let kafka = local_stack::Kafka::ephemeral().unwrap();
        let servers = kafka.bootstrap_servers();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &servers);
        runtime.block_on(pipeline_runtime::kafka::ensure_topic(&config, "events")).unwrap();

        let first = member(&servers);
        let AssignmentChange::Assign(partitions) = next_change(&first) else {
            panic!("the first change is no assignment")
        };
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset("events", partition, rdkafka::Offset::Beginning).unwrap();
        }
        first.incremental_assign(&list).unwrap();
        let second = member(&servers);
        // The first member does not answer, so the second one receives nothing else.
        assert!(matches!(next_change(&first), AssignmentChange::Revoke(_)));
        if polled {
            assert_eq!(next_change(&second), AssignmentChange::Assign(Vec::new()));
        } else {
            // The group answers the second member at the same time, and this member must not poll before it closes.
            thread::sleep(Duration::from_secs(1));
        }
        assert!(second.context().close(&second, Duration::from_secs(5)));
        assert!(first.context().close(&first, Duration::from_secs(5)));
    }

    #[test]
    fn closing_answers_a_change_that_is_still_queued() {
        closes_with_an_empty_assignment(false);
    }

    #[test]
    fn closing_answers_a_change_that_was_delivered_before() {
        closes_with_an_empty_assignment(true);
    }
}
