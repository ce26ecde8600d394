//! Single records, read from Kafka once more.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pipeline_runtime::kafka::Complaints;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task;

/// How long Kafka is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads records by their offsets, beside the group and without a word to it.
#[derive(Clone)]
pub struct Reread {
    config: ClientConfig,
    topic: String,
}

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The partition.
    pub partition: i32,
    /// What was made of the first record at the offset or after it; none where there is none.
    pub record: Option<(i64, T)>,
}

impl Reread {
    /// With the consumer's own configuration.
    #[must_use]
    pub fn new(config: &ClientConfig, topic: &str) -> Self {
        let mut config = config.clone();
        // A few records are wanted, not what comes after them.
        for (property, value) in
            [("queued.min.messages", "1"), ("fetch.message.max.bytes", "65536"), ("enable.partition.eof", "true")]
        {
            config.set(property, value);
        }
        config.remove("group.instance.id");
        Self { config, topic: topic.to_owned() }
    }

    /// The record at an offset.
    pub async fn record(&self, partition: i32, offset: i64) -> anyhow::Result<OwnedMessage> {
        let whole = |record: &BorrowedMessage<'_>| record.detach();
        let found = self.first_at(vec![(partition, offset)], whole).await?;
        match found.into_iter().find_map(|found| found.record) {
            Some((at, record)) if at == offset => Ok(record),
            _ => bail!("Kafka no longer has offset {offset} of partition {partition} of {}", self.topic),
        }
    }

    /// For each partition what a function makes of the first record at an offset or after it.
    pub async fn first_at<T: Send + 'static>(
        &self,
        places: Vec<(i32, i64)>,
        make: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> anyhow::Result<Vec<Found<T>>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let this = self.clone();
        task::spawn_blocking(move || this.read(&places, make)).await.context("reading from Kafka broke off")?
    }

    fn read<T>(
        &self,
        places: &[(i32, i64)],
        make: impl Fn(&BorrowedMessage<'_>) -> T,
    ) -> anyhow::Result<Vec<Found<T>>> {
        let complaints = Complaints::default();
        let consumer: BaseConsumer<Complaints> =
            BaseConsumer::from_config_and_context(&self.config, complaints.clone())?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        consumer.assign(&list)?;
        let deadline = Instant::now() + PATIENCE;
        let mut found: Vec<Found<T>> = Vec::with_capacity(places.len());
        while found.len() < places.len() {
            let (partition, record) = match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => (record.partition(), Some((record.offset(), make(&record)))),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => (partition, None),
                Some(Err(error)) if is_out_of_range(&error) => {
                    bail!("Kafka no longer has what was to be read again of {}", self.topic)
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "kafka error while reading again");
                    continue;
                }
                None if Instant::now() > deadline => {
                    let complaint = complaints.last().unwrap_or_else(|| "no answer".to_owned());
                    bail!("{} could not be read again within {} s: {complaint}", self.topic, PATIENCE.as_secs())
                }
                None => continue,
            };
            if !found.iter().any(|found| found.partition == partition) {
                found.push(Found { partition, record });
            }
        }
        Ok(found)
    }
}

fn is_out_of_range(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::OffsetOutOfRange | Code::AutoOffsetReset))
}
