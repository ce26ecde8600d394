//! The topic of a run. Only `--create-topic` creates it: a mistyped name must not become a topic.

use std::time::Duration;

use anyhow::anyhow;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::{TopicError, ensure_topic, similar_topics, topic_partitions};
use pipeline_runtime::shutdown::ShutdownDeadline;
use rdkafka::config::ClientConfig;

use crate::observability::health::Health;

/// Interval between two looks for a missing topic.
const BETWEEN: Duration = Duration::from_secs(2);

/// Action if the topic does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingTopic {
    /// Create it.
    Create,
    /// Wait until another program creates it.
    Await,
    /// Fail.
    Fail,
}

/// Returns the number of partitions of the topic, or `None` if the caller has to [wait](appearance) for it.
pub(crate) async fn find(config: &ClientConfig, topic: &str, missing: MissingTopic) -> Result<Option<i32>, Failure> {
    if missing == MissingTopic::Create {
        return Ok(Some(ensure_topic(config, topic).await?.partitions));
    }
    if let Some(partitions) = topic_partitions(config, topic).await? {
        return Ok(Some(partitions));
    }
    if missing == MissingTopic::Fail {
        let similar = similar_topics(config, topic).await;
        return Err(Failure::Failed(anyhow!(
            "cannot read topic {topic}: it does not exist; correct --topic{}, or create it with --create-topic",
            suggestion(&similar)
        )));
    }
    Ok(None)
}

/// Waits for the topic. Returns its number of partitions, or `None` if a shutdown was requested before it exists.
pub(crate) async fn appearance(
    config: &ClientConfig,
    topic: &str,
    health: &Health,
    shutdown: &ShutdownDeadline,
) -> Result<Option<i32>, TopicError> {
    let similar = similar_topics(config, topic).await;
    tracing::warn!(topic, ?similar, "topic does not exist, waiting for it; create it with --create-topic");
    health.waiting(Some(format!("topic {topic} does not exist")));
    let partitions = tokio::select! {
        partitions = appears(config, topic) => partitions?,
        () = shutdown.requested() => return Ok(None),
    };
    health.waiting(None);
    Ok(Some(partitions))
}

/// Waits for the topic, also through an outage of Kafka.
async fn appears(config: &ClientConfig, topic: &str) -> Result<i32, TopicError> {
    loop {
        tokio::time::sleep(BETWEEN).await;
        match topic_partitions(config, topic).await {
            Ok(Some(partitions)) => return Ok(partitions),
            Ok(None) => {}
            Err(error @ TopicError::Unreachable { .. }) => tracing::debug!(%error, topic, "topic not looked for"),
            Err(error) => return Err(error),
        }
    }
}

fn suggestion(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(" (similar: {})", similar.join(", ")) }
}
