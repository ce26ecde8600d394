//! Access to Kafka for both programs: addresses, properties and the topic.

mod properties;
mod topic;
pub mod watermarks;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde_json::{Map, Value, json};

pub use properties::Guard;
pub use topic::{
    Topic, TopicError, TopicSettings, ensure_topic, topic_configuration, topic_partitions, topic_settings,
};
pub use watermarks::Watermarks;

use crate::exit::Failure;

/// Connection to Kafka and the topic.
#[derive(Args, Clone, Debug)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Bootstrap servers of the Kafka cluster, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", default_value = "localhost:9092")]
    pub bootstrap_servers: String,
    /// Topic of the events; `run` creates it with 6 partitions if it does not exist
    #[arg(long, default_value = "product-events")]
    pub topic: String,
    /// Set a librdkafka property, such as security.protocol=SASL_SSL; repeatable
    #[arg(short = 'X', long = "kafka-property", value_name = "KEY=VALUE", value_delimiter = None)]
    pub properties: Vec<String>,
    /// File of librdkafka properties, one KEY=VALUE per line, # for comments; -X takes precedence
    #[arg(long, value_name = "FILE")]
    pub kafka_config: Option<PathBuf>,
}

impl KafkaArgs {
    /// Returns the client configuration: the user's properties and those that the program requires.
    ///
    /// An unknown property of librdkafka, or one that a guard forbids, is a usage error.
    pub fn client_config(&self, guards: &[Guard]) -> Result<ClientConfig, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in properties::read(self.kafka_config.as_deref(), &self.properties)? {
            properties::permit(&name, &value, guards)?;
            config.set(name, value);
        }
        config.set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        match config.create_native_config() {
            Err(KafkaError::ClientConfig(_, what, name, _)) => Err(Failure::usage(format!(
                "invalid Kafka property {name}: {what}; see librdkafka's CONFIGURATION.md for names and values"
            ))),
            _ => Ok(config),
        }
    }

    /// Returns the flags for `--print-config`, with secrets masked.
    pub fn printed(&self) -> Result<Value, Failure> {
        let all = properties::read(self.kafka_config.as_deref(), &self.properties)?;
        let shown = |(name, value): (String, String)| {
            let value = if properties::is_secret(&name) { "***".to_owned() } else { value };
            (name, Value::from(value))
        };
        Ok(json!({
            "bootstrap_servers": self.bootstrap_servers,
            "topic": self.topic,
            "properties": all.into_iter().map(shown).collect::<Map<_, _>>(),
        }))
    }
}

/// The last error that the Kafka clients reported, for the message of a timeout.
#[derive(Clone, Debug, Default)]
pub struct ClientErrors(Arc<Mutex<Option<Complaint>>>);

/// An error that librdkafka reported in the background.
#[derive(Clone, Debug)]
struct Complaint {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl Complaint {
    /// Returns true if a broker was reached and rejected the client. Later errors only report that it is disconnected.
    fn is_refusal(&self) -> bool {
        // A listener without TLS just closes the connection, which librdkafka reports as a transport failure.
        let of_tls = self.reason.contains("SSL handshake failed");
        of_tls || matches!(self.code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL))
    }
}

impl ClientErrors {
    /// Returns the reason of the last error, as librdkafka reported it.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|complaint| complaint.reason.clone())
    }

    /// Returns the reason if a broker was reached and rejected this client (authentication, TLS), or `None`.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|complaint| complaint.is_refusal()).map(|complaint| complaint.reason.clone())
    }

    /// Records and logs an error that librdkafka reported in the background.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "kafka brokers all down");
            return;
        }
        tracing::debug!(%error, reason, "kafka client error");
        self.keep(Complaint { code: error.rdkafka_error_code(), reason: reason.to_owned() });
    }

    fn keep(&self, complaint: Complaint) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if complaint.is_refusal() || !last.as_ref().is_some_and(Complaint::is_refusal) {
            *last = Some(complaint);
        }
    }
}

impl ClientContext for ClientErrors {
    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }

    /// Logs a line of librdkafka.
    ///
    /// A listener that expects TLS just closes the connection, which librdkafka logs but does not report as an error.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message);
        if message.contains("security.protocol") {
            self.keep(Complaint { code: None, reason: message.to_owned() });
        }
    }
}

impl ConsumerContext for ClientErrors {}

/// Sets a property unless the user has set it.
pub fn set_default(config: &mut ClientConfig, property: &str, value: impl Into<String>) {
    if config.get(property).is_none() {
        config.set(property, value);
    }
}
