//! Rereads single records from Kafka.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pipeline_runtime::kafka::{ClientErrors, Connection};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use thiserror::Error;
use tokio::task;

/// Timeout for an answer from Kafka. Each record restarts it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Partition and offset of a record.
type RecordIndex = (i32, i64);

/// Maximum number of records to skip by reading them. A seek would discard the records that were fetched ahead.
const GAP: i64 = 1_000;

/// Properties for reading many records: larger fetches, within a limit.
const MANY: [(&str, &str); 3] =
    [("queued.min.messages", "1000"), ("fetch.message.max.bytes", "262144"), ("queued.max.messages.kbytes", "2048")];

/// Reads records by offset, without joining the group.
#[derive(Clone)]
pub(crate) struct RecordLookup {
    config: ClientConfig,
    topic: String,
    /// Has the present credentials.
    connection: Connection,
}

/// Errors of [`RecordLookup`].
#[derive(Debug, Error)]
pub(crate) enum RecordLookupError {
    /// Kafka did not answer in time. The error may be transient.
    #[error("cannot reread records of {topic}: no answer from Kafka within {} s ({complaint})", TIMEOUT.as_secs())]
    NoAnswer {
        topic: String,
        /// Last error that the client reported.
        complaint: String,
    },
    /// Kafka no longer has the record.
    #[error("cannot reread a record of {topic}: Kafka has deleted it; increase the topic's retention.ms")]
    Gone { topic: String },
    /// The Kafka user may not read the topic.
    #[error("cannot read topic {topic}: access denied; grant the Kafka user READ on it")]
    Denied { topic: String },
    /// The client failed.
    #[error("cannot reread records: {0}")]
    Client(#[from] KafkaError),
}

/// First record at or after an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    pub(crate) partition: i32,
    /// Offset of the record and the value made from it. `None` if the partition ends before it.
    pub(crate) record: Option<(i64, T)>,
}

impl RecordLookup {
    /// Creates a lookup with the consumer's own configuration.
    #[must_use]
    pub(crate) fn new(config: &ClientConfig, topic: &str, connection: &Connection) -> Self {
        let mut config = config.clone();
        // Only a few records are wanted, so fetch little beyond them.
        for (property, value) in
            [("queued.min.messages", "1"), ("fetch.message.max.bytes", "65536"), ("enable.partition.eof", "true")]
        {
            config.set(property, value);
        }
        Self { config, topic: topic.to_owned(), connection: connection.clone() }
    }

    /// Reads the records at these offsets and returns the values that `make` returns for them, in the same order.
    ///
    /// `wanted` is ordered by partition and offset, and holds an argument for `make` with each offset. All records are
    /// read in one assignment, which skips the records between them.
    pub(crate) async fn records<W: Send + 'static, T: Send + 'static>(
        &self,
        wanted: Vec<(RecordIndex, W)>,
        make: impl Fn(&BorrowedMessage<'_>, W) -> T + Send + 'static,
    ) -> Result<Vec<(RecordIndex, T)>, RecordLookupError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let this = self.clone();
        task::spawn_blocking(move || this.read_all(wanted, make)).await.map_err(|_| KafkaError::Canceled)?
    }

    fn read_all<W, T>(
        &self,
        wanted: Vec<(RecordIndex, W)>,
        make: impl Fn(&BorrowedMessage<'_>, W) -> T,
    ) -> Result<Vec<(RecordIndex, T)>, RecordLookupError> {
        let mut waiting = BTreeMap::<i32, VecDeque<(i64, W)>>::new();
        let (mut found, mut sought) = (BTreeMap::new(), BTreeMap::new());
        let count = wanted.len();
        for ((partition, offset), with) in wanted {
            waiting.entry(partition).or_default().push_back((offset, with));
        }
        let mut config = self.connection.refreshed(&self.config);
        for (property, value) in MANY {
            config.set(property, value);
        }
        let client_errors = ClientErrors::default();
        let consumer: BaseConsumer<ClientErrors> =
            BaseConsumer::from_config_and_context(&config, client_errors.clone())?;
        let first = waiting.iter().filter_map(|(partition, offsets)| Some((*partition, offsets.front()?.0)));
        self.assign(&consumer, first)?;
        let mut deadline = Instant::now() + TIMEOUT;
        while found.len() < count {
            let record = match self.poll(&consumer, &client_errors, deadline)? {
                Polled::Record(record) => record,
                Polled::End(partition) if waiting.contains_key(&partition) => return Err(self.gone_of(partition)),
                Polled::End(_) | Polled::Nothing => continue,
            };
            deadline = Instant::now() + TIMEOUT;
            let partition = record.partition();
            let Some(offsets) = waiting.get_mut(&partition) else { continue };
            match offsets.pop_front_if(|(offset, _)| *offset <= record.offset()) {
                Some((offset, with)) if offset == record.offset() => {
                    found.insert((partition, offset), make(&record, with));
                }
                Some(_) => return Err(self.gone_of(partition)),
                None => {}
            }
            match offsets.front().map(|(next, _)| *next) {
                None => {
                    waiting.remove(&partition);
                    consumer.pause(&self.list([(partition, record.offset())])?)?;
                }
                // Records that were fetched before the seek may still arrive. They must not repeat it.
                Some(next) if next - record.offset() > GAP && sought.insert(partition, next) != Some(next) => {
                    consumer.seek(&self.topic, partition, Offset::Offset(next), Duration::ZERO)?;
                }
                Some(_) => {}
            }
        }
        Ok(found.into_iter().collect())
    }

    fn gone_of(&self, partition: i32) -> RecordLookupError {
        RecordLookupError::Gone { topic: format!("{}, partition {partition}", self.topic) }
    }

    fn list(&self, places: impl IntoIterator<Item = RecordIndex>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition(&self.topic, partition).set_offset(Offset::Offset(offset))?;
        }
        Ok(list)
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<ClientErrors>,
        places: impl IntoIterator<Item = RecordIndex>,
    ) -> Result<(), KafkaError> {
        consumer.assign(&self.list(places)?)
    }

    /// Polls once. Fails if nothing arrives after the deadline.
    fn poll<'c>(
        &self,
        consumer: &'c BaseConsumer<ClientErrors>,
        client_errors: &ClientErrors,
        deadline: Instant,
    ) -> Result<Polled<'c>, RecordLookupError> {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => Ok(Polled::Record(record)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Polled::End(partition)),
            Some(Err(error)) if is_out_of_range(&error) => Err(RecordLookupError::Gone { topic: self.topic.clone() }),
            Some(Err(error)) if error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) => {
                Err(RecordLookupError::Denied { topic: self.topic.clone() })
            }
            None | Some(Err(_)) if Instant::now() > deadline => {
                let complaint = client_errors.last().unwrap_or_else(|| "no answer".to_owned());
                Err(RecordLookupError::NoAnswer { topic: self.topic.clone(), complaint })
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "kafka error while rereading");
                Ok(Polled::Nothing)
            }
            None => Ok(Polled::Nothing),
        }
    }

    /// Applies `make` to the first record at or after each offset. Returns the values in the order of the partitions.
    pub(crate) async fn first_at<T: Send + 'static>(
        &self,
        places: Vec<(i32, i64)>,
        make: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
    ) -> Result<Vec<Found<T>>, RecordLookupError> {
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
    ) -> Result<Vec<Found<T>>, RecordLookupError> {
        let client_errors = ClientErrors::default();
        let consumer: BaseConsumer<ClientErrors> =
            BaseConsumer::from_config_and_context(&self.connection.refreshed(&self.config), client_errors.clone())?;
        self.assign(&consumer, places.iter().copied())?;
        let mut deadline = Instant::now() + TIMEOUT;
        let mut found = BTreeMap::new();
        while found.len() < places.len() {
            let (partition, record) = match self.poll(&consumer, &client_errors, deadline)? {
                Polled::Record(record) => (record.partition(), Some((record.offset(), make(&record)))),
                Polled::End(partition) => (partition, None),
                Polled::Nothing => continue,
            };
            if found.contains_key(&partition) {
                continue;
            }
            deadline = Instant::now() + TIMEOUT;
            // Later records of the partition are neither fetched nor kept.
            consumer.pause(&self.list([(partition, 0)])?)?;
            found.insert(partition, Found { partition, record });
        }
        Ok(found.into_values().collect())
    }
}

/// Outcome of a poll.
enum Polled<'c> {
    Record(BorrowedMessage<'c>),
    /// The partition has no further records.
    End(i32),
    Nothing,
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::OffsetOutOfRange | Code::AutoOffsetReset))
}
