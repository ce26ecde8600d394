//! Connects to Kafka and to the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use lake::Lake;
use pipeline_runtime::kafka::{Topic, TopicSettings, ensure_topic, topic_settings, watermarks};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;

use super::args::ResumeFlags;
use crate::run_state::RunHandle;
use crate::sinks::kafka::MIN_MESSAGE_BYTES;

/// Retention below which the log warns: a consumer that was down for a while may lose records.
const SHORT_RETENTION_MILLIS: u64 = 3_600_000;
/// Timeout of the request for the ends of the topic's partitions.
const ENDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to both. If both fail, the error names both.
pub(super) async fn connect(
    flags: &ResumeFlags,
    config: &ClientConfig,
    largest_value: usize,
) -> anyhow::Result<(Option<(Topic, TopicSettings)>, Option<Lake>)> {
    let (kafka, lake) = tokio::join!(connect_kafka(flags, config, largest_value), connect_lake(flags));
    match (kafka, lake) {
        (Ok(kafka), Ok(lake)) => Ok((kafka, lake)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(anyhow!("{first:#}\nerror: {second:#}")),
    }
}

async fn connect_lake(flags: &ResumeFlags) -> anyhow::Result<Option<Lake>> {
    if flags.no_lake {
        return Ok(None);
    }
    // Once the lake has answered, an outage is retried indefinitely.
    Ok(Some(flags.lake.open().await?.with_retry_deadline(None)))
}

async fn connect_kafka(
    flags: &ResumeFlags,
    config: &ClientConfig,
    largest_value: usize,
) -> anyhow::Result<Option<(Topic, TopicSettings)>> {
    if flags.no_kafka {
        return Ok(None);
    }
    let name = &flags.kafka.topic;
    let topic = ensure_topic(config, name).await?;
    let settings = topic_settings(config, name).await;
    let needed = MIN_MESSAGE_BYTES.max(largest_value as u64 + MIN_MESSAGE_BYTES / 2);
    if let Some(max) = settings.max_message_bytes.filter(|max| *max < needed) {
        return Err(anyhow!(
            "cannot use topic {name}: its max.message.bytes is {max}, and a record may need {needed}; raise \
             max.message.bytes"
        ));
    }
    if let Some(retention_ms) = settings.retention_ms.filter(|retention| *retention < SHORT_RETENTION_MILLIS) {
        tracing::warn!(topic = name, retention_ms, "topic retention is shorter than an hour; raise retention.ms");
    }
    Ok(Some((topic, settings)))
}

/// Fails if the topic lost records that Kafka acknowledged in earlier processes of the run, which a resume does not send
/// again. A topic that was recreated and has as many records by now is not recognized.
pub(super) async fn check_acknowledged(
    config: &ClientConfig,
    name: &str,
    topic: Topic,
    handle: &RunHandle,
) -> anyhow::Result<()> {
    let acknowledged = &handle.state.acknowledged.end_offsets;
    if acknowledged.is_empty() {
        return Ok(());
    }
    let client: Arc<BaseConsumer> = Arc::new(config.create().context("cannot start the Kafka client")?);
    let (asked, partitions) = (name.to_owned(), (0..topic.partitions).collect::<Vec<_>>());
    let ends =
        watermarks::ask(&client, move |client| watermarks::ends(client, &asked, &partitions, ENDS_TIMEOUT)).await;
    let ends = ends.with_context(|| format!("cannot read the ends of topic {name}"))?;
    let Some((partition, lost)) = lost_records(acknowledged, &ends, topic.partitions) else { return Ok(()) };
    let settings = &handle.state.settings;
    Err(anyhow!(
        "topic {name} lacks {lost} records of run {run} in partition {partition} that Kafka acknowledged: the topic was \
         recreated, or this is another cluster; name the former cluster with --bootstrap-servers, or remove {folder} and \
         start the run again with --seed {seed} --from {from}",
        run = handle.state.run,
        folder = handle.folder.path().display(),
        seed = settings["seed"],
        from = settings["from"].as_str().unwrap_or_default(),
    ))
}

/// Returns the first partition that ends before its acknowledged records do, and the number of the missing offsets.
fn lost_records(acknowledged: &BTreeMap<i32, i64>, ends: &BTreeMap<i32, i64>, partitions: i32) -> Option<(i32, i64)> {
    acknowledged.iter().find_map(|(&partition, &acknowledged)| {
        // The end of a partition without a leader is unknown.
        let end = if partition < partitions { *ends.get(&partition)? } else { 0 };
        (end < acknowledged).then_some((partition, acknowledged - end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_ends_early_has_lost_records() {
        let acknowledged = BTreeMap::from([(0, 10), (2, 30)]);
        let lost =
            |ends: &[(i32, i64)], partitions| lost_records(&acknowledged, &ends.iter().copied().collect(), partitions);
        assert_eq!(lost(&[(0, 10), (1, 0), (2, 31)], 3), None);
        assert_eq!(lost(&[(0, 10), (1, 0), (2, 29)], 3), Some((2, 1)));
        assert_eq!(lost(&[(0, 10), (1, 0)], 2), Some((2, 30)), "fewer partitions");
        assert_eq!(lost(&[(0, 10), (1, 0)], 3), None, "no leader");
    }
}
