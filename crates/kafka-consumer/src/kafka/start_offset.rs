//! Start offsets of a group.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use event_model::Timestamp;
use pipeline_runtime::kafka::{Watermarks, watermarks};
use rdkafka::error::KafkaError;

use crate::kafka::context::Kafka;

/// Start of a group that has never read the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartOffset {
    /// Oldest record that Kafka has.
    Earliest,
    /// First record written from now on.
    Latest,
    /// First record with this timestamp or a later one.
    Time(Timestamp),
}

impl FromStr for StartOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => time.parse().map(Self::Time).map_err(|_| {
                "neither earliest, latest nor an RFC 3339 time; write a time such as 2026-11-22T00:00:00Z".to_owned()
            }),
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

const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the low and the high watermark of each partition.
pub(crate) async fn watermarks(
    kafka: &Kafka,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Watermarks>, KafkaError> {
    let (topic, partitions) = (topic.to_owned(), partitions.to_vec());
    watermarks::ask_leaders(kafka, move |kafka| watermarks::watermarks(kafka, &topic, &partitions, TIMEOUT)).await
}

/// Returns the partitions of the topic. Empty if the topic does not exist.
pub(crate) async fn partitions(kafka: &Kafka, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let topic = topic.to_owned();
    watermarks::ask(kafka, move |kafka| watermarks::partitions(kafka, &topic, TIMEOUT)).await
}

pub(crate) async fn start_offsets(
    kafka: &Kafka,
    topic: &str,
    start: StartOffset,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let partitions = partitions(kafka, topic).await?;
    let ends = watermarks(kafka, topic, &partitions).await?;
    let millis = match start {
        StartOffset::Earliest => return Ok(ends.into_iter().map(|(partition, ends)| (partition, ends.low)).collect()),
        StartOffset::Latest => return Ok(ends.into_iter().map(|(partition, ends)| (partition, ends.high)).collect()),
        StartOffset::Time(time) => time.micros().div_euclid(1_000),
    };
    let topic = topic.to_owned();
    let found = watermarks::ask_leaders(kafka, move |kafka| {
        watermarks::offsets_at(kafka, &topic, &partitions, millis, TIMEOUT)
    });
    let found = found.await?;
    // A partition without a record of that time or later starts at its end.
    let offset =
        |(partition, ends): (i32, Watermarks)| (partition, found.get(&partition).copied().unwrap_or(ends.high));
    Ok(ends.into_iter().map(offset).collect())
}
