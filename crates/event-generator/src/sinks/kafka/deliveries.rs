//! Delivery reports: acknowledged records and rejected ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_runtime::kafka::ClientErrors;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use thiserror::Error;

use crate::failpoint::{AFTER_ACK, pass};
use crate::sinks::DurablePrefix;

/// Counts of acknowledged records. The polling thread writes them; any thread reads them.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// Records that an earlier process of the run sent.
    before: u64,
    records: AtomicU64,
    /// Bytes of keys and values.
    bytes: AtomicU64,
    segment_indices: u64,
    failed: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    /// By partition.
    end_offsets: Vec<i64>,
    /// Number of acknowledged records of each segment from `first_segment` on.
    segments: VecDeque<u64>,
    first_segment: u64,
    error: Option<DeliveryError>,
}

/// Records acknowledged by all in-sync replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) records: u64,
    /// By partition, the offset after the last record.
    pub(crate) end_offsets: BTreeMap<i32, i64>,
}

/// The permanent rejection of one record, or of all records of this producer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Kafka rejected {}: {cause}{}", subject(*.index), remedy(*.code))]
pub(crate) struct DeliveryError {
    index: Option<u64>,
    code: Option<RDKafkaErrorCode>,
    cause: String,
}

fn subject(index: Option<u64>) -> String {
    index.map_or_else(|| "this producer".to_owned(), |index| format!("the record of event {index}"))
}

fn remedy(code: Option<RDKafkaErrorCode>) -> &'static str {
    match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => "; raise max.message.bytes of the topic",
        // The second is returned to idempotent producers without WRITE on any topic.
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            "; grant the Kafka user WRITE on the topic"
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            "; check whether the topic was deleted during the run"
        }
        Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::PolicyViolation) => {
            "; remove the policy of the topic (compaction, a schema) that rejects product events"
        }
        _ => "",
    }
}

impl DeliveryError {
    pub(super) fn new(index: u64, error: &KafkaError) -> Self {
        Self { index: Some(index), code: error.rdkafka_error_code(), cause: error.to_string() }
    }

    /// Returns the rejection of all records if librdkafka's error is permanent.
    fn permanent(error: &KafkaError, reason: &str) -> Option<Self> {
        let code = error.rdkafka_error_code();
        let permanent = matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::ClusterAuthorizationFailed));
        permanent.then(|| Self { index: None, code, cause: reason.to_owned() })
    }
}

impl Deliveries {
    /// Creates the counts of a run that continues after a durable prefix.
    pub(crate) fn resuming(prefix: &DurablePrefix, segment_indices: u64) -> Self {
        let mut details = Details { first_segment: prefix.next_segment, ..Details::default() };
        for (&partition, &end) in &prefix.end_offsets {
            details.advance(partition, end);
        }
        Self {
            before: prefix.counts.expected_counts().kafka_records,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            segment_indices: segment_indices.max(1),
            failed: AtomicBool::new(false),
            details: Mutex::new(details),
        }
    }

    /// Returns the number of acknowledged records of the run.
    pub(crate) fn records(&self) -> u64 {
        self.before + self.process_records()
    }

    /// Returns the number of acknowledged records that this process sent.
    pub(super) fn process_records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Returns the bytes of keys and values of acknowledged records that this process sent.
    pub(super) fn process_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of acknowledged records of a segment.
    pub(crate) fn segment_records(&self, segment: u64) -> u64 {
        let details = self.lock();
        let position = segment.checked_sub(details.first_segment).and_then(|position| usize::try_from(position).ok());
        position.and_then(|position| details.segments.get(position).copied()).unwrap_or(0)
    }

    /// Drops the counts of all segments before this one.
    pub(crate) fn drop_segments_before(&self, segment: u64) {
        let mut details = self.lock();
        while details.first_segment < segment {
            details.first_segment += 1;
            details.segments.pop_front();
        }
    }

    pub(crate) fn acknowledged(&self) -> Acknowledged {
        let partitions = self.lock().end_offsets.clone();
        let offsets = (0..).zip(partitions).filter(|(_, end)| *end > 0);
        Acknowledged { records: self.records(), end_offsets: offsets.collect() }
    }

    /// Returns the first rejection.
    pub(super) fn error(&self) -> Option<DeliveryError> {
        if self.failed.load(Ordering::Relaxed) { self.lock().error.clone() } else { None }
    }

    fn delivered(&self, index: u64, partition: i32, offset: i64, bytes: usize) {
        pass(AFTER_ACK);
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut details = self.lock();
        details.advance(partition, offset + 1);
        details.count_record(index / self.segment_indices);
    }

    fn fail(&self, error: DeliveryError) {
        tracing::error!(index = error.index, cause = error.cause, "record rejected");
        self.lock().error.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Details {
    fn advance(&mut self, partition: i32, end: i64) {
        let partition = usize::try_from(partition).unwrap_or(0);
        if self.end_offsets.len() <= partition {
            self.end_offsets.resize(partition + 1, 0);
        }
        self.end_offsets[partition] = self.end_offsets[partition].max(end);
    }

    fn count_record(&mut self, segment: u64) {
        let position = segment.checked_sub(self.first_segment).and_then(|position| usize::try_from(position).ok());
        let Some(position) = position else { return };
        if self.segments.len() <= position {
            self.segments.resize(position + 1, 0);
        }
        self.segments[position] += 1;
    }
}

/// Callbacks of librdkafka that fill [`Deliveries`].
pub(super) struct DeliveryContext {
    deliveries: Arc<Deliveries>,
    client_errors: ClientErrors,
}

impl DeliveryContext {
    pub(super) fn new(deliveries: Arc<Deliveries>) -> Self {
        Self { deliveries, client_errors: ClientErrors::default() }
    }
}

impl ClientContext for DeliveryContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.client_errors.note(&error, reason);
        if let Some(error) = DeliveryError::permanent(&error, reason) {
            self.deliveries.fail(error);
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
            // Dropped at the shutdown, which reports the number of unacknowledged records.
            Err((error, _)) if is_purge(error) => {}
            Err((error, _)) => self.deliveries.fail(DeliveryError::new(index as u64, error)),
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
    fn end_offsets_follow_the_last_record() {
        let deliveries = Deliveries::resuming(&DurablePrefix::default(), 10);
        for (index, partition, offset) in [(0, 2, 7), (1, 0, 0), (2, 2, 8), (3, 2, 5)] {
            deliveries.delivered(index, partition, offset, 300);
        }
        let acknowledged = deliveries.acknowledged();
        assert_eq!(acknowledged.records, 4);
        assert_eq!(acknowledged.end_offsets, BTreeMap::from([(0, 1), (2, 9)]));
    }

    #[test]
    fn segments_are_counted_separately_after_the_prefix() {
        let mut prefix =
            DurablePrefix { next_segment: 2, end_offsets: BTreeMap::from([(1, 5)]), ..DurablePrefix::default() };
        prefix.counts.outcomes.valid = 20;
        let deliveries = Deliveries::resuming(&prefix, 10);
        for index in [20, 29, 29, 30, 51] {
            deliveries.delivered(index, 0, 3, 300);
        }
        let of = |segment| deliveries.segment_records(segment);
        assert_eq!([1, 2, 3, 4, 5, 6].map(of), [0, 3, 1, 0, 1, 0]);
        deliveries.drop_segments_before(4);
        assert_eq!([2, 3, 4, 5].map(of), [0, 0, 0, 1]);
        assert_eq!(deliveries.records(), 25);
        assert_eq!(deliveries.acknowledged().end_offsets, BTreeMap::from([(0, 4), (1, 5)]));
    }

    #[test]
    fn the_first_error_is_kept_and_names_the_remedy() {
        let deliveries = Deliveries::resuming(&DurablePrefix::default(), 1);
        assert_eq!(deliveries.error(), None);
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        deliveries.fail(DeliveryError::new(41, &error));
        deliveries.fail(DeliveryError::new(42, &error));
        let text = deliveries.error().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("event 41") && text.contains("max.message.bytes"), "{text}");
    }
}
