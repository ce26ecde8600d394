//! The topic: that it is there, and what it allows.

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

/// How long a broker may take to answer when a program starts.
const PATIENCE: Duration = Duration::from_secs(5);
/// Policy of waiting for a topic that was created.
const APPEARANCE: RetryPolicy = RetryPolicy::constant(Duration::from_millis(50)).with_deadline(Some(PATIENCE));
/// Errors and log lines that may have come up meanwhile.
const EVENTS_AT_MOST: usize = 200;
/// Partitions of a topic that we make.
const PARTITIONS: i32 = 6;

/// The topic as it was found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// How many partitions it has.
    pub partitions: i32,
    /// Whether it was made just now.
    pub created: bool,
}

/// The topic's settings that matter to whoever writes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// The largest batch in bytes that the broker takes (`max.message.bytes`).
    pub max_message_bytes: Option<u64>,
    /// How long records are kept, in milliseconds (`retention.ms`); none means for ever or unknown.
    pub retention_ms: Option<u64>,
    /// Whether the broker puts its own time into the records (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
}

/// Why the topic cannot be used.
#[derive(Debug, Error)]
pub enum TopicError {
    /// No broker answered.
    #[error(
        "no Kafka broker answered at {servers} within {} s{}; `{START_LOCAL_STACK}` starts the local one, \
         --bootstrap-servers names another",
        PATIENCE.as_secs(), .complaint.as_deref().map(|text| format!(" ({text})")).unwrap_or_default()
    )]
    Unreachable {
        /// The addresses that were asked.
        servers: String,
        /// What the client last complained about.
        complaint: Option<String>,
    },
    /// A broker was reached, but TLS or the login failed.
    #[error(
        "Kafka at {servers} turned this client away: {reason}. security.protocol, sasl.mechanism, sasl.username, \
         sasl.password and ssl.ca.location (-X or --kafka-config) say how to come in"
    )]
    ConnectionRejected {
        /// The addresses that were asked.
        servers: String,
        /// The broker's words, or OpenSSL's.
        reason: String,
    },
    /// A broker answered with an error.
    #[error("the topic {topic} cannot be used: {error}{}", hint(*.error))]
    Refused {
        /// The topic.
        topic: String,
        /// The broker's error.
        error: RDKafkaErrorCode,
    },
    /// The client itself could not be made.
    #[error("the Kafka client could not be started: {0}")]
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
            "; the Kafka user needs DESCRIBE on the topic, and CREATE unless the topic is made beforehand"
        }
        RDKafkaErrorCode::InvalidTopic => "; a topic has 1 to 249 letters, digits, dots, underscores and hyphens",
        _ => "",
    }
}

/// Makes sure that the topic is there: makes it with 6 partitions and the broker's default replication where it is
/// absent. Answers within some ten seconds.
pub async fn ensure_topic(config: &ClientConfig, topic: &str) -> Result<Topic, TopicError> {
    if let Some(partitions) = partitions(config, topic).await? {
        return Ok(Topic { partitions, created: false });
    }
    let admin = AdminClient::from_config_and_context(config, ClientErrors::default()).map_err(TopicError::Client)?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let refused = |error| TopicError::Refused { topic: topic.to_owned(), error };
    let answers = admin.create_topics([&new], &options).await;
    match answers.map(|topics| topics.into_iter().next()) {
        // Somebody else may have made it meanwhile.
        Ok(Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None) => {}
        Ok(Some(Err((_, error)))) => return Err(refused(error)),
        Err(error) => return Err(refused(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))),
    }
    tracing::info!(topic, partitions = PARTITIONS, "topic created");
    await_topic(config, topic).await
}

/// Waits until the new topic has reached the broker's metadata.
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

/// How many partitions the topic has; none where it is absent.
async fn partitions(config: &ClientConfig, topic: &str) -> Result<Option<i32>, TopicError> {
    let (config, name) = (config.clone(), topic.to_owned());
    let asked = task::spawn_blocking(move || fetch_metadata(&config, &name));
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

/// Asks as a consumer, which can be polled: the other clients don't say why a broker turned them away.
fn fetch_metadata(config: &ClientConfig, topic: &str) -> Result<Metadata, TopicError> {
    let client_errors = ClientErrors::default();
    let client: BaseConsumer<ClientErrors> =
        BaseConsumer::from_config_and_context(config, client_errors.clone()).map_err(TopicError::Client)?;
    client.fetch_metadata(Some(topic), PATIENCE).map_err(|_| {
        // Log lines stand between the errors, and each call takes one of either.
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

/// Asks the broker for the topic's settings; what it does not tell, for lack of a right for instance, is none.
pub async fn topic_settings(config: &ClientConfig, topic: &str) -> TopicSettings {
    let told = topic_configuration(config, topic).await.unwrap_or_default();
    let number = |name: &str| told.get(name).and_then(|text| text.parse().ok());
    TopicSettings {
        max_message_bytes: number("max.message.bytes"),
        retention_ms: number("retention.ms"),
        log_append_time: told.get("message.timestamp.type").is_some_and(|text| text == "LogAppendTime"),
    }
}

/// All of the topic's settings by their names; none where the broker does not tell them, for lack of a right for instance.
pub async fn topic_configuration(config: &ClientConfig, topic: &str) -> Option<BTreeMap<String, String>> {
    let admin = AdminClient::from_config_and_context(config, ClientErrors::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let resource = answers.into_iter().next()?.ok()?;
    let told: BTreeMap<_, _> =
        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    // The client passes a refusal on as a topic without settings.
    Some(told).filter(|told| !told.is_empty())
}

/// How many partitions the topic has; none where it is absent. Answers within some five seconds.
pub async fn topic_partitions(config: &ClientConfig, topic: &str) -> Result<Option<i32>, TopicError> {
    partitions(config, topic).await
}
