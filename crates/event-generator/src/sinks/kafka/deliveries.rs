//! Delivery reports: acknowledged records and rejected ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_runtime::kafka::{ClientErrors, Connection};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use thiserror::Error;
use workload::MAX_INDEX;

use crate::failpoint::{AFTER_ACK, pass};

/// Counts of acknowledged records. The polling thread writes them; any thread reads them.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// Acknowledged records that earlier processes of the run sent and this one does not send again.
    before: u64,
    records: AtomicU64,
    /// Bytes of keys and values.
    bytes: AtomicU64,
    failed: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    /// By partition.
    end_offsets: Vec<i64>,
    /// Number of acknowledged records of each block from `first_block` on.
    blocks: VecDeque<u64>,
    first_block: u64,
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
    /// Creates the counts of a run that continues after an acknowledged prefix with some records and end offsets.
    pub(crate) fn resuming(before: u64, end_offsets: &BTreeMap<i32, i64>) -> Self {
        let mut details = Details::default();
        for (&partition, &end) in end_offsets {
            details.advance(partition, end);
        }
        Self {
            before,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
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

    /// Returns the number of acknowledged records of a block.
    pub(crate) fn block_records(&self, block: u64) -> u64 {
        let details = self.lock();
        let position = block.checked_sub(details.first_block).and_then(|position| usize::try_from(position).ok());
        position.and_then(|position| details.blocks.get(position).copied()).unwrap_or(0)
    }

    /// Drops the counts of all blocks before this one. All their records are acknowledged.
    pub(crate) fn drop_blocks_before(&self, block: u64) {
        let mut details = self.lock();
        while details.first_block < block {
            details.first_block += 1;
            details.blocks.pop_front();
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

    /// Counts an acknowledged record of a block.
    pub(crate) fn delivered(&self, block: u64, partition: i32, offset: i64, bytes: usize) {
        pass(AFTER_ACK);
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut details = self.lock();
        details.advance(partition, offset + 1);
        details.count_record(block);
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

    /// Counts a record of a block, of whose number only the last bits are known.
    fn count_record(&mut self, block: u64) {
        let position = usize::try_from(block.wrapping_sub(self.first_block) & BLOCK_MASK).unwrap_or(usize::MAX);
        if self.blocks.len() <= position {
            self.blocks.resize(position + 1, 0);
        }
        self.blocks[position] += 1;
    }
}

/// The record that a delivery report refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordTag {
    /// Index of the event.
    pub(crate) index: u64,
    /// Number of its block in this process.
    pub(crate) block: u64,
}

/// Bits of an index in the opaque value of a record. The rest is for the last bits of the block's number, which are
/// enough to tell apart the blocks in flight.
const INDEX_BITS: u32 = u64::BITS - MAX_INDEX.leading_zeros();
const BLOCK_MASK: u64 = u64::MAX >> INDEX_BITS;
const _: () = assert!(usize::BITS == u64::BITS);

impl RecordTag {
    /// Returns the opaque value of the record, which librdkafka keeps until its delivery report.
    pub(super) fn to_opaque(self) -> usize {
        usize::try_from((self.block << INDEX_BITS) | self.index).unwrap_or(usize::MAX)
    }

    /// Restores a tag. Of the block's number only the last bits are known.
    fn from_opaque(opaque: usize) -> Self {
        let opaque = opaque as u64;
        Self { index: opaque & MAX_INDEX, block: opaque >> INDEX_BITS }
    }
}

/// Callbacks of librdkafka that fill [`Deliveries`].
pub(super) struct DeliveryContext {
    deliveries: Arc<Deliveries>,
    client_errors: ClientErrors,
}

impl DeliveryContext {
    pub(super) fn new(deliveries: Arc<Deliveries>, connection: &Connection) -> Self {
        Self { deliveries, client_errors: ClientErrors::reporting_to(connection) }
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
    /// The record's tag.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let RecordTag { index, block } = RecordTag::from_opaque(opaque);
        match result {
            Ok(message) => {
                let bytes = message.key_len() + message.payload_len();
                self.deliveries.delivered(block, message.partition(), message.offset(), bytes);
            }
            // Dropped at the shutdown, which reports the number of unacknowledged records.
            Err((error, _)) if is_purge(error) => {}
            Err((error, _)) => self.deliveries.fail(DeliveryError::new(index, error)),
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
        let deliveries = Deliveries::resuming(0, &BTreeMap::new());
        for (partition, offset) in [(2, 7), (0, 0), (2, 8), (2, 5)] {
            deliveries.delivered(0, partition, offset, 300);
        }
        let acknowledged = deliveries.acknowledged();
        assert_eq!(acknowledged.records, 4);
        assert_eq!(acknowledged.end_offsets, BTreeMap::from([(0, 1), (2, 9)]));
    }

    #[test]
    fn blocks_are_counted_separately_after_the_prefix() {
        let deliveries = Deliveries::resuming(20, &BTreeMap::from([(1, 5)]));
        for block in [0, 0, 0, 1, 3] {
            deliveries.delivered(block, 0, 3, 300);
        }
        let of = |block| deliveries.block_records(block);
        assert_eq!([0, 1, 2, 3, 4].map(of), [3, 1, 0, 1, 0]);
        deliveries.drop_blocks_before(2);
        assert_eq!([0, 1, 2, 3].map(of), [0, 0, 0, 1]);
        assert_eq!(deliveries.records(), 25);
        assert_eq!(deliveries.acknowledged().end_offsets, BTreeMap::from([(0, 4), (1, 5)]));
    }

    #[test]
    fn the_last_bits_of_a_blocks_number_are_enough() {
        for block in [0, 1, BLOCK_MASK, BLOCK_MASK + 1, 5 * (BLOCK_MASK + 1) - 1] {
            let deliveries = Deliveries::resuming(0, &BTreeMap::new());
            deliveries.lock().first_block = block;
            for (ahead, index) in [(0, 7), (3, MAX_INDEX)] {
                let tag = RecordTag::from_opaque(RecordTag { index, block: block + ahead }.to_opaque());
                assert_eq!(tag.index, index);
                deliveries.delivered(tag.block, 0, 0, 300);
            }
            assert_eq!([0, 1, 2, 3].map(|ahead| deliveries.block_records(block + ahead)), [1, 0, 0, 1], "{block}");
        }
    }

    #[test]
    fn the_first_error_is_kept_and_names_the_remedy() {
        let deliveries = Deliveries::resuming(0, &BTreeMap::new());
        assert_eq!(deliveries.error(), None);
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
        deliveries.fail(DeliveryError::new(41, &error));
        deliveries.fail(DeliveryError::new(42, &error));
        let text = deliveries.error().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("event 41") && text.contains("max.message.bytes"), "{text}");
    }
}
