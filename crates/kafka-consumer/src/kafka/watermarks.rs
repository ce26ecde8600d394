//! Where Kafka's partitions begin and end.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use event_model::Timestamp;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use retry_policy::{RetryPolicy, Retryable};
use tokio::task;

use crate::kafka::context::Kafka;

/// Where a group that has never read the topic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartOffset {
    /// With the oldest records that Kafka has.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With the first record of this time or later.
    Time(Timestamp),
}

impl FromStr for StartOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => time.parse().map(Self::Time).map_err(|error| format!("not earliest, not latest, and {error}")),
        }
    }
}

impl fmt::Display for StartOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
/// A topic that was just created has no leaders for a moment.
const LEADERS: RetryPolicy = RetryPolicy::constant(Duration::from_millis(100)).with_retries(100);

/// The oldest and the next offset of each partition.
pub(crate) async fn watermarks(
    kafka: &Kafka,
    topic: &str,
    partitions: Vec<i32>,
) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
    let ask = || async {
        let (kafka, topic, partitions) = (Arc::clone(kafka), topic.to_owned(), partitions.clone());
        let asked = task::spawn_blocking(move || {
            let ask = |partition| Ok((partition, kafka.fetch_watermarks(&topic, partition, PATIENCE)?));
            partitions.into_iter().map(ask).collect::<Result<_, KafkaError>>()
        });
        asked.await.map_err(|_| KafkaError::Canceled)?
    };
    let passes = |error: &KafkaError| {
        matches!(
            error.rdkafka_error_code(),
            Some(
                Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
            )
        )
    };
    ask.retry(LEADERS).when(passes).await
}

pub(crate) async fn start_offsets(
    kafka: &Kafka,
    topic: &str,
    start: StartOffset,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let partitions = partitions(kafka, topic).await?;
    let ends = watermarks(kafka, topic, partitions.clone()).await;
    let ends = ends.context("Kafka did not tell where the partitions begin and end")?;
    let at = match start {
        StartOffset::Earliest => return Ok(ends.into_iter().map(|(partition, (low, _))| (partition, low)).collect()),
        StartOffset::Latest => return Ok(ends.into_iter().map(|(partition, (_, high))| (partition, high)).collect()),
        StartOffset::Time(time) => Offset::Offset(time.micros().div_euclid(1_000)),
    };
    let mut times = TopicPartitionList::new();
    for partition in partitions {
        times.add_partition_offset(topic, partition, at)?;
    }
    let kafka = Arc::clone(kafka);
    let found = task::spawn_blocking(move || kafka.offsets_for_times(times, PATIENCE)).await??;
    // Where no record is that young the partition's end is meant.
    Ok(ends
        .into_iter()
        .map(|(partition, (_, high))| {
            let offset = found.find_partition(topic, partition).and_then(|element| element.offset().to_raw());
            (partition, offset.filter(|offset| *offset >= 0).unwrap_or(high))
        })
        .collect())
}

/// Returns the topic's partitions; an empty list if the topic does not exist.
pub(crate) async fn partitions(kafka: &Kafka, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let (kafka, name) = (Arc::clone(kafka), topic.to_owned());
    let asked = task::spawn_blocking(move || kafka.fetch_metadata(Some(&name), PATIENCE)).await;
    let metadata = asked.map_err(|_| KafkaError::Canceled)??;
    let found = metadata.topics().iter().filter(|one| one.name() == topic);
    Ok(found.flat_map(rdkafka::metadata::MetadataTopic::partitions).map(MetadataPartition::id).collect())
}
