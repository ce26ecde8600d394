//! What the broker said to each record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_runtime::kafka::Complaints;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use thiserror::Error;

use crate::failpoint::{AFTER_ACK, pass};
use crate::run_state::Safe;

/// Counts of delivery reports, written by the thread that polls and read by any.
#[derive(Debug)]
pub struct Deliveries {
    /// Those that this process did not send: it goes on with a run.
    before: u64,
    records: AtomicU64,
    /// Of keys and values.
    bytes: AtomicU64,
    segment_indices: u64,
    refused: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    /// By partition.
    end_offsets: Vec<i64>,
    /// Acknowledged records of each segment, from `first_segment` on.
    segments: VecDeque<u64>,
    first_segment: u64,
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
    /// For a run with segments of so many indices, of which this much is stored already.
    #[must_use]
    pub fn after(safe: &Safe, segment_indices: u64) -> Self {
        let mut details = Details { first_segment: safe.next_segment, ..Details::default() };
        for (&partition, &end) in &safe.end_offsets {
            details.ends_at(partition, end);
        }
        Self {
            before: safe.counts.expected_counts().kafka_records,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            segment_indices: segment_indices.max(1),
            refused: AtomicBool::new(false),
            details: Mutex::new(details),
        }
    }

    /// How many records are acknowledged.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.before + self.of_this_process()
    }

    /// Those of them that this process has sent.
    pub(super) fn of_this_process(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// The bytes of their keys and values.
    pub(super) fn bytes_of_this_process(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many records of a segment are acknowledged.
    #[must_use]
    pub fn of_segment(&self, segment: u64) -> u64 {
        let details = self.lock();
        let place = segment.checked_sub(details.first_segment).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| details.segments.get(place).copied()).unwrap_or(0)
    }

    /// Segments before this one are no longer asked for.
    pub fn forget_before(&self, segment: u64) {
        let mut details = self.lock();
        while details.first_segment < segment {
            details.first_segment += 1;
            details.segments.pop_front();
        }
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

    fn delivered(&self, index: u64, partition: i32, offset: i64, bytes: usize) {
        pass(AFTER_ACK);
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut details = self.lock();
        details.ends_at(partition, offset + 1);
        details.count(index / self.segment_indices);
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

impl Details {
    fn ends_at(&mut self, partition: i32, end: i64) {
        let partition = usize::try_from(partition).unwrap_or(0);
        if self.end_offsets.len() <= partition {
            self.end_offsets.resize(partition + 1, 0);
        }
        self.end_offsets[partition] = self.end_offsets[partition].max(end);
    }

    fn count(&mut self, segment: u64) {
        let Some(place) = segment.checked_sub(self.first_segment).and_then(|place| usize::try_from(place).ok()) else {
            return;
        };
        if self.segments.len() <= place {
            self.segments.resize(place + 1, 0);
        }
        self.segments[place] += 1;
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
            Ok(message) => {
                let bytes = message.key_len() + message.payload_len();
                self.deliveries.delivered(index as u64, message.partition(), message.offset(), bytes);
            }
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
        let deliveries = Deliveries::after(&Safe::default(), 10);
        for (index, partition, offset) in [(0, 2, 7), (1, 0, 0), (2, 2, 8), (3, 2, 5)] {
            deliveries.delivered(index, partition, offset, 300);
        }
        let acknowledged = deliveries.acknowledged();
        assert_eq!(acknowledged.records, 4);
        assert_eq!(acknowledged.end_offsets, BTreeMap::from([(0, 1), (2, 9)]));
    }

    #[test]
    fn segments_are_counted_apart_and_after_what_is_stored() {
        let mut safe = Safe { next_segment: 2, end_offsets: BTreeMap::from([(1, 5)]), ..Safe::default() };
        safe.counts.outcomes.valid = 20;
        let deliveries = Deliveries::after(&safe, 10);
        for index in [20, 29, 29, 30, 51] {
            deliveries.delivered(index, 0, 3, 300);
        }
        let of = |segment| deliveries.of_segment(segment);
        assert_eq!([1, 2, 3, 4, 5, 6].map(of), [0, 3, 1, 0, 1, 0]);
        deliveries.forget_before(4);
        assert_eq!([2, 3, 4, 5].map(of), [0, 0, 0, 1]);
        assert_eq!(deliveries.records(), 25);
        assert_eq!(deliveries.acknowledged().end_offsets, BTreeMap::from([(0, 4), (1, 5)]));
    }

    #[test]
    fn the_first_refusal_is_kept_and_says_what_to_do() {
        let deliveries = Deliveries::after(&Safe::default(), 1);
        assert_eq!(deliveries.refusal(), None);
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        deliveries.refuse(Refusal::new(41, &error));
        deliveries.refuse(Refusal::new(42, &error));
        let text = deliveries.refusal().map(|refusal| refusal.to_string()).unwrap_or_default();
        assert!(text.contains("event 41") && text.contains("max.message.bytes"), "{text}");
    }
}
