//! Single records, read from Kafka once more.

use std::time::{Duration, Instant};

use pipeline_runtime::kafka::Complaints;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::task;

/// How long Kafka is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads records by their offsets, beside the group and without a word to it.
#[derive(Clone)]
pub struct Reread {
    config: ClientConfig,
    topic: String,
}

/// Why a record was not read again.
#[derive(Debug, Error)]
pub enum RereadError {
    /// Kafka is away; it may come back.
    #[error("{topic} could not be read again within {} s: {complaint}", PATIENCE.as_secs())]
    NoAnswer {
        /// The topic.
        topic: String,
        /// What the client last complained about.
        complaint: String,
    },
    /// The record is no longer there.
    #[error("Kafka no longer has what was to be read again of {topic}")]
    Gone {
        /// The topic.
        topic: String,
    },
    /// Kafka does not let this user read.
    #[error("the Kafka user needs READ on the topic {topic}")]
    Denied {
        /// The topic.
        topic: String,
    },
    /// The client itself could not be used.
    #[error("the Kafka client could not read again: {0}")]
    Client(#[from] KafkaError),
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
        Self { config, topic: topic.to_owned() }
    }

    /// Returns what a function makes of the record at an offset.
    pub async fn record<T: Send + 'static>(
        &self,
        partition: i32,
        offset: i64,
        make: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> Result<T, RereadError> {
        let found = self.first_at(vec![(partition, offset)], make).await?;
        match found.into_iter().find_map(|found| found.record) {
            Some((at, record)) if at == offset => Ok(record),
            _ => Err(RereadError::Gone { topic: format!("{}, partition {partition}, offset {offset}", self.topic) }),
        }
    }

    /// For each partition what a function makes of the first record at an offset or after it.
    pub async fn first_at<T: Send + 'static>(
        &self,
        places: Vec<(i32, i64)>,
        make: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> Result<Vec<Found<T>>, RereadError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let this = self.clone();
        task::spawn_blocking(move || this.read(&places, make)).await.map_err(|_| KafkaError::Canceled)?
    }

    fn read<T>(
        &self,
        places: &[(i32, i64)],
        make: impl Fn(&BorrowedMessage<'_>) -> T,
    ) -> Result<Vec<Found<T>>, RereadError> {
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
                Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
                Some(Err(error)) if is_out_of_range(&error) => {
                    return Err(RereadError::Gone { topic: self.topic.clone() });
                }
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) => {
                    return Err(RereadError::Denied { topic: self.topic.clone() });
                }
                None | Some(Err(_)) if Instant::now() > deadline => {
                    let complaint = complaints.last().unwrap_or_else(|| "no answer".to_owned());
                    return Err(RereadError::NoAnswer { topic: self.topic.clone(), complaint });
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "kafka error while reading again");
                    continue;
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

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::OffsetOutOfRange | Code::AutoOffsetReset))
}
