//! Reads the topic from its beginning to its end at the start of the scan. The partitions are assigned, not subscribed,
//! and no offset is committed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Error;
use crate::ledger::Ledger;
use crate::letters::Bytes;
use crate::trace::RecordIndex;

/// Low watermark and end offset of a partition at the start of the scan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) low: i64,
    pub(crate) end: i64,
}

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);

/// A topic and its consumer.
pub(crate) struct Topic<'a> {
    servers: &'a str,
    name: &'a str,
    consumer: BaseConsumer,
}

impl<'a> Topic<'a> {
    pub(crate) fn open(servers: &'a str, name: &'a str) -> Result<Self, Error> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            // Never joined: librdkafka requires a group ID to assign partitions.
            .set("group.id", "verifier")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", "200000")
            .set("queued.max.messages.kbytes", "65536")
            .set_log_level(RDKafkaLogLevel::Critical)
            .create()
            .map_err(|cause| Error::Kafka { servers: servers.to_owned(), doing: "create a client", cause })?;
        Ok(Self { servers, name, consumer })
    }

    fn fault(&self, doing: &'static str) -> impl FnOnce(KafkaError) -> Error {
        let servers = self.servers.to_owned();
        move |cause| Error::Kafka { servers, doing, cause }
    }

    /// Returns the low watermark and the end offset of every partition.
    pub(crate) fn spans(&self) -> Result<HashMap<i32, Span>, Error> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(self.name), ANSWER_WITHIN)
            .map_err(self.fault("list the partitions of the topic"))?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == self.name)
            .flat_map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
            .collect();
        if partitions.is_empty() {
            return Err(Error::TopicMissing { servers: self.servers.to_owned(), topic: self.name.to_owned() });
        }
        let mut spans = HashMap::new();
        for partition in partitions {
            let (low, end) = self
                .consumer
                .fetch_watermarks(self.name, partition, ANSWER_WITHIN)
                .map_err(self.fault("read the end of a partition"))?;
            spans.insert(partition, Span { low, end });
        }
        Ok(spans)
    }

    /// Adds all records of the spans to the ledger.
    pub(crate) fn scan(&self, spans: &HashMap<i32, Span>, ledger: &mut Ledger) -> Result<(), Error> {
        let mut left: HashMap<i32, i64> = spans
            .iter()
            .filter(|(_, span)| span.low < span.end)
            .map(|(partition, span)| (*partition, span.end))
            .collect();
        let mut start = TopicPartitionList::new();
        for partition in left.keys() {
            start
                .add_partition_offset(self.name, *partition, Offset::Offset(spans[partition].low))
                .map_err(self.fault("assigning"))?;
        }
        self.consumer.assign(&start).map_err(self.fault("assigning"))?;
        let mut last = Instant::now();
        while !left.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    take(&message, &mut left, ledger);
                }
                // Transaction markers and aborted or compacted records may precede the end, so that the last record
                // before it never arrives. EOF ends such a partition.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
                Some(Err(source)) if last.elapsed() > TIMEOUT => return Err(self.fault("read the topic")(source)),
                Some(Err(_)) | None if last.elapsed() <= TIMEOUT => {}
                Some(Err(_)) | None => {
                    let topic = self.name.to_owned();
                    return Err(Error::Stalled { topic, waited: TIMEOUT, left: left.len() });
                }
            }
        }
        Ok(())
    }
}

fn take(message: &BorrowedMessage, left: &mut HashMap<i32, i64>, ledger: &mut Ledger) {
    let (partition, offset) = (message.partition(), message.offset());
    let Some(end) = left.get(&partition) else {
        return;
    };
    if offset < *end {
        let headers = Bytes::headers_of(&rdkafka_ext::headers(message));
        let bytes = Bytes { key: message.key(), value: message.payload(), headers };
        ledger.record(partition, RecordIndex::new(partition, offset), &bytes);
    }
    if offset + 1 >= *end {
        left.remove(&partition);
    }
}
