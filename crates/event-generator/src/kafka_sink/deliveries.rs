//! What the broker said to each record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_runtime::kafka::Complaints;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use thiserror::Error;

/// Counts of delivery reports, written by the thread that polls and read by any.
#[derive(Debug, Default)]
pub struct Deliveries {
    records: AtomicU64,
    refused: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    /// By partition.
    end_offsets: Vec<i64>,
    refusal: Option<Refusal>,
}

/// What all in-sync replicas have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Records.
    pub records: u64,
    /// By partition, the offset after the last of them.
    pub end_offsets: BTreeMap<i32, i64>,
}

/// A record that will not be delivered, or none will be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Kafka refused {}: {cause}{}", what(*.index), hint(*.code))]
pub struct Refusal {
    index: Option<u64>,
    code: Option<RDKafkaErrorCode>,
    cause: String,
}

fn what(index: Option<u64>) -> String {
    index.map_or_else(|| "this producer".to_owned(), |index| format!("the record of event {index}"))
}

fn hint(code: Option<RDKafkaErrorCode>) -> &'static str {
    match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => "; raise max.message.bytes of the topic",
        // The second is the answer to idempotent producers that may write to no topic at all.
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            "; the Kafka user needs WRITE on the topic"
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            "; the topic was removed while the run went on"
        }
        Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::PolicyViolation) => {
            "; the topic has a policy (compaction, a schema) that product events do not meet"
        }
        _ => "",
    }
}

impl Refusal {
    pub(super) fn new(index: u64, error: &KafkaError) -> Self {
        Self { index: Some(index), code: error.rdkafka_error_code(), cause: error.to_string() }
    }

    /// Of all records, where librdkafka's error is one that no later attempt would change.
    fn of_all(error: &KafkaError, reason: &str) -> Option<Self> {
        let code = error.rdkafka_error_code();
        let lasting = matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::ClusterAuthorizationFailed));
        lasting.then(|| Self { index: None, code, cause: reason.to_owned() })
    }
}

impl Deliveries {
    /// How many records are acknowledged.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// All that is acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Acknowledged {
        let partitions = self.lock().end_offsets.clone();
        let offsets = (0..).zip(partitions).filter(|(_, end)| *end > 0);
        Acknowledged { records: self.records(), end_offsets: offsets.collect() }
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.refused.load(Ordering::Relaxed) { self.lock().refusal.clone() } else { None }
    }

    fn delivered(&self, partition: i32, offset: i64) {
        self.records.fetch_add(1, Ordering::Relaxed);
        let partition = usize::try_from(partition).unwrap_or(0);
        let mut details = self.lock();
        if details.end_offsets.len() <= partition {
            details.end_offsets.resize(partition + 1, 0);
        }
        let end = &mut details.end_offsets[partition];
        *end = (*end).max(offset + 1);
    }

    fn refuse(&self, refusal: Refusal) {
        tracing::error!(index = refusal.index, cause = refusal.cause, "record refused");
        self.lock().refusal.get_or_insert(refusal);
        self.refused.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// librdkafka's way to [`Deliveries`].
pub(super) struct DeliveryContext {
    deliveries: Arc<Deliveries>,
    complaints: Complaints,
}

impl DeliveryContext {
    pub(super) fn new(deliveries: Arc<Deliveries>) -> Self {
        Self { deliveries, complaints: Complaints::default() }
    }
}

impl ClientContext for DeliveryContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.note(&error, reason);
        if let Some(refusal) = Refusal::of_all(&error, reason) {
            self.deliveries.refuse(refusal);
        }
    }
}

impl ProducerContext for DeliveryContext {
    /// The event's index.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(message) => self.deliveries.delivered(message.partition(), message.offset()),
            // Thrown away by ourselves at the end, which has been reported already.
            Err((error, _)) if is_purge(error) => {}
            Err((error, _)) => self.deliveries.refuse(Refusal::new(index as u64, error)),
        }
    }
}

fn is_purge(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_after_the_last() {
        let deliveries = Deliveries::default();
        for (partition, offset) in [(2, 7), (0, 0), (2, 8), (2, 5)] {
            deliveries.delivered(partition, offset);
        }
        let acknowledged = deliveries.acknowledged();
        assert_eq!(acknowledged.records, 4);
        assert_eq!(acknowledged.end_offsets, BTreeMap::from([(0, 1), (2, 9)]));
    }

    #[test]
    fn the_first_refusal_is_kept_and_says_what_to_do() {
        let deliveries = Deliveries::default();
        assert_eq!(deliveries.refusal(), None);
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        deliveries.refuse(Refusal::new(41, &error));
        deliveries.refuse(Refusal::new(42, &error));
        let text = deliveries.refusal().map(|refusal| refusal.to_string()).unwrap_or_default();
        assert!(text.contains("event 41") && text.contains("max.message.bytes"), "{text}");
    }
}
