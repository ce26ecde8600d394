//! Connects to Kafka and to the lake.

use anyhow::anyhow;
use lake::Lake;
use pipeline_runtime::kafka::{Topic, TopicSettings, ensure_topic, topic_settings};
use rdkafka::config::ClientConfig;

use super::args::ResumeFlags;
use crate::sinks::kafka::MIN_MESSAGE_BYTES;

/// Retention below which the log warns: a consumer that was down for a while may lose records.
const SHORT_RETENTION_MILLIS: u64 = 3_600_000;

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
        tracing::warn!(topic = name, retention_ms, "topic retention is shorter than an hour");
    }
    Ok(Some((topic, settings)))
}
