//! The offsets at which a group begins.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use pipeline_runtime::kafka::{Watermarks, watermarks};
use rdkafka::error::KafkaError;

use super::{Kafka, Start};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the beginning and the end of each partition.
pub(super) async fn watermarks(
    kafka: &Kafka,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Watermarks>, KafkaError> {
    watermarks::await_watermarks(kafka, topic, partitions, TIMEOUT).await
}

/// Returns the topic's partitions; an empty list if the topic does not exist.
pub(super) async fn partitions(kafka: &Kafka, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let topic = topic.to_owned();
    watermarks::ask(kafka, move |kafka| watermarks::partitions(kafka, &topic, TIMEOUT)).await
}

pub(super) async fn start_offsets(kafka: &Kafka, topic: &str, start: Start) -> anyhow::Result<BTreeMap<i32, i64>> {
    let partitions = partitions(kafka, topic).await?;
    let ends = watermarks(kafka, topic, &partitions).await;
    let ends = ends.context("Kafka did not report where the partitions begin and end")?;
    let millis = match start {
        Start::Beginning => return Ok(ends.into_iter().map(|(partition, ends)| (partition, ends.low)).collect()),
        Start::End => return Ok(ends.into_iter().map(|(partition, ends)| (partition, ends.high)).collect()),
        Start::Time(time) => time.micros().div_euclid(1_000),
    };
    let topic = topic.to_owned();
    let found =
        watermarks::ask(kafka, move |kafka| watermarks::offsets_at(kafka, &topic, &partitions, millis, TIMEOUT));
    let found = found.await?;
    // A partition without a record of that time or later begins at its end.
    let offset =
        |(partition, ends): (i32, Watermarks)| (partition, found.get(&partition).copied().unwrap_or(ends.high));
    Ok(ends.into_iter().map(offset).collect())
}
