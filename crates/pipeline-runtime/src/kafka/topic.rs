//! Creation and settings of the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use retry_policy::{RetryPolicy, Retryable};
use thiserror::Error;
use tokio::task;

use super::ClientErrors;
use crate::START_LOCAL_STACK;
use crate::exit::Failure;

/// Timeout of each request to a broker.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Retry policy while a new topic is missing from the metadata.
const APPEARANCE: RetryPolicy = RetryPolicy::constant(Duration::from_millis(50)).with_deadline(Some(TIMEOUT));
/// Maximum number of queued errors and log lines to process.
const EVENTS_AT_MOST: usize = 200;
/// Number of partitions of a topic that this module creates.
const PARTITIONS: i32 = 6;

/// An existing or newly created topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Number of partitions.
    pub partitions: i32,
    /// True if the topic was just created, by this program or concurrently by another one.
    pub created: bool,
}

/// Settings of a topic that matter to producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Maximum size of a record batch in bytes (`max.message.bytes`).
    pub max_message_bytes: Option<u64>,
    /// Retention time of records in milliseconds (`retention.ms`); `None` if unlimited or unknown.
    pub retention_ms: Option<u64>,
    /// True if the broker assigns the timestamps of records (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
}

/// Error that prevents the use of the topic.
#[derive(Debug, Error)]
pub enum TopicError {
    /// No broker responded.
    #[error(
        "cannot connect to Kafka at {servers}: no broker responded within {} s{}; start the local stack with \
         '{START_LOCAL_STACK}', or set --bootstrap-servers",
        TIMEOUT.as_secs(), .complaint.as_deref().map(|text| format!(" ({text})")).unwrap_or_default()
    )]
    Unreachable {
        /// Bootstrap servers.
        servers: String,
        /// Last error reported by the client.
        complaint: Option<String>,
    },
    /// A broker was reached, but TLS or authentication failed.
    #[error(
        "cannot connect to Kafka at {servers}: {reason}; check security.protocol, sasl.mechanism, sasl.username, \
         sasl.password, ssl.ca.location and ssl.certificate.location (-X or --kafka-config)"
    )]
    ConnectionRejected {
        /// Bootstrap servers.
        servers: String,
        /// Reason reported by the broker or by OpenSSL.
        reason: String,
    },
    /// A broker responded with an error.
    #[error("cannot use topic {topic}: {error}{}", hint(*.error))]
    Refused {
        /// Name of the topic.
        topic: String,
        /// Error code of the broker.
        error: RDKafkaErrorCode,
    },
    /// The client could not be created.
    #[error("cannot start the Kafka client: {0}; check -X and --kafka-config")]
    Client(KafkaError),
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Client(_) => Self::usage(error.to_string()),
            other => Self::Failed(other.into()),
        }
    }
}

fn hint(error: RDKafkaErrorCode) -> &'static str {
    match error {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "; grant the Kafka user DESCRIBE on the topic, and CREATE unless the topic exists"
        }
        RDKafkaErrorCode::InvalidTopic => "; use 1 to 249 letters, digits, dots, underscores and hyphens",
        _ => "",
    }
}

/// Returns the topic. Creates it if it does not exist, with 6 partitions and the broker's default replication factor.
///
/// Each request has a timeout of five seconds.
pub async fn ensure_topic(config: &ClientConfig, topic: &str) -> Result<Topic, TopicError> {
    if let Some(partitions) = partitions(config, topic).await? {
        return Ok(Topic { partitions, created: false });
    }
    let admin = AdminClient::from_config_and_context(config, ClientErrors::default()).map_err(TopicError::Client)?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let refused = |error| TopicError::Refused { topic: topic.to_owned(), error };
    let answers = admin.create_topics([&new], &options).await;
    match answers.map(|topics| topics.into_iter().next()) {
        // Another client may have created it concurrently.
        Ok(Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None) => {}
        Ok(Some(Err((_, error)))) => return Err(refused(error)),
        Err(error) => return Err(refused(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))),
    }
    tracing::info!(topic, partitions = PARTITIONS, "topic created");
    await_topic(config, topic).await
}

/// Waits until the broker's metadata includes the new topic.
async fn await_topic(config: &ClientConfig, topic: &str) -> Result<Topic, TopicError> {
    const ABSENT: RDKafkaErrorCode = RDKafkaErrorCode::UnknownTopicOrPartition;
    let ask = || async {
        let found = partitions(config, topic).await?;
        found.ok_or_else(|| TopicError::Refused { topic: topic.to_owned(), error: ABSENT })
    };
    let is_absent = |error: &TopicError| matches!(error, TopicError::Refused { error: ABSENT, .. });
    let partitions = ask.retry(APPEARANCE).when(is_absent).await?;
    Ok(Topic { partitions, created: true })
}

/// Returns the number of partitions, or `None` if the topic does not exist or has no leader yet.
async fn partitions(config: &ClientConfig, topic: &str) -> Result<Option<i32>, TopicError> {
    let (config, name) = (config.clone(), topic.to_owned());
    let asked = task::spawn_blocking(move || fetch_metadata(&config, Some(&name)));
    let metadata = asked.await.map_err(|_| TopicError::Client(KafkaError::Canceled))??;
    let Some(found) = metadata.topics().iter().find(|one| one.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if !found.partitions().is_empty() => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable) => Ok(None),
        Some(error) => Err(TopicError::Refused { topic: topic.to_owned(), error }),
    }
}

/// Fetches the metadata with a consumer, because other clients cannot be polled for the reason of a rejection.
/// Without a topic, fetches that of all topics that the user may describe.
pub(super) fn fetch_metadata(config: &ClientConfig, topic: Option<&str>) -> Result<Metadata, TopicError> {
    let client_errors = ClientErrors::default();
    let client: BaseConsumer<ClientErrors> =
        BaseConsumer::from_config_and_context(config, client_errors.clone()).map_err(TopicError::Client)?;
    client.fetch_metadata(topic, TIMEOUT).map_err(|_| {
        // Errors and log lines share a queue, and each poll takes one event.
        for _ in 0..EVENTS_AT_MOST {
            let _ = client.poll(Duration::ZERO);
        }
        let servers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        match client_errors.refusal() {
            Some(reason) => TopicError::ConnectionRejected { servers, reason },
            None => TopicError::Unreachable { servers, complaint: client_errors.last() },
        }
    })
}

/// Returns the settings of the topic. A setting that the broker does not report is `None` or false.
///
/// The broker reports no settings if, for example, a privilege is missing.
pub async fn topic_settings(config: &ClientConfig, topic: &str) -> TopicSettings {
    let told = topic_configuration(config, topic).await.unwrap_or_default();
    let number = |name: &str| told.get(name).and_then(|text| text.parse().ok());
    TopicSettings {
        max_message_bytes: number("max.message.bytes"),
        retention_ms: number("retention.ms"),
        log_append_time: told.get("message.timestamp.type").is_some_and(|text| text == "LogAppendTime"),
    }
}

/// Returns all settings of the topic by name, or `None` if the broker does not report them.
///
/// The broker reports no settings if, for example, a privilege is missing.
pub async fn topic_configuration(config: &ClientConfig, topic: &str) -> Option<BTreeMap<String, String>> {
    configuration(config, &ResourceSpecifier::Topic(topic)).await
}

/// Returns all settings of a broker by name, or `None` if it does not report them.
///
/// The broker reports no settings if, for example, a privilege is missing.
pub async fn broker_configuration(config: &ClientConfig, topic: &str) -> Option<BTreeMap<String, String>> {
    let (cloned, topic) = (config.clone(), topic.to_owned());
    let asked = task::spawn_blocking(move || fetch_metadata(&cloned, Some(&topic)));
    let broker = asked.await.ok()?.ok()?.brokers().first()?.id();
    configuration(config, &ResourceSpecifier::Broker(broker)).await
}

async fn configuration(config: &ClientConfig, of: &ResourceSpecifier<'_>) -> Option<BTreeMap<String, String>> {
    let admin = AdminClient::from_config_and_context(config, ClientErrors::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let answers = admin.describe_configs([of], &options).await.ok()?;
    let resource = answers.into_iter().next()?.ok()?;
    let told: BTreeMap<_, _> =
        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    // The client reports a missing privilege as a topic without settings.
    Some(told).filter(|told| !told.is_empty())
}

/// Returns the number of partitions, or `None` if the topic does not exist. Takes at most about five seconds.
pub async fn topic_partitions(config: &ClientConfig, topic: &str) -> Result<Option<i32>, TopicError> {
    partitions(config, topic).await
}
