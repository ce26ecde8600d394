//! Access to Kafka for both programs: addresses, properties and the topic.

mod client_errors;
mod connection;
mod credentials;
mod properties;
mod similar_topics;
mod topic;
pub mod watermarks;

use std::path::PathBuf;

use clap::Args;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use serde_json::{Map, Value, json};

pub use client_errors::ClientErrors;
pub use connection::{Connection, ConnectionState, LoginRefused, Outage};
pub use credentials::Credentials;
pub use properties::Guard;
pub use similar_topics::similar_topics;
pub use topic::{
    Topic, TopicError, TopicSettings, broker_configuration, ensure_topic, topic_configuration, topic_partitions,
    topic_settings,
};
pub use watermarks::Watermarks;

use crate::exit::Failure;

/// Connection to Kafka and the topic.
#[derive(Args, Clone, Debug)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Bootstrap servers of the Kafka cluster, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", default_value = "localhost:9092", value_parser = servers)]
    pub bootstrap_servers: String,
    /// Topic of the events; event-generator creates it with 6 partitions if it does not exist
    #[arg(long, default_value = "product-events", value_parser = not_empty)]
    pub topic: String,
    /// Set a librdkafka property, such as security.protocol=SASL_SSL; repeatable
    #[arg(short = 'X', long = "kafka-property", value_name = "KEY=VALUE", value_delimiter = None)]
    pub properties: Vec<String>,
    /// File of librdkafka properties, one KEY=VALUE per line, # for comments; -X takes precedence
    #[arg(long, value_name = "FILE")]
    pub kafka_config: Option<PathBuf>,
}

/// Parses a text that must not be empty.
pub fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("the value must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Parses a list of addresses. An empty address would be ignored silently.
fn servers(text: &str) -> Result<String, String> {
    if text.split(',').any(|address| address.trim().is_empty()) {
        return Err("an address is empty; write HOST:PORT, separated by commas".to_owned());
    }
    Ok(text.to_owned())
}

impl KafkaArgs {
    /// Returns the state of a process that connects with these flags. It rereads `--kafka-config`.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection::new(Credentials::new(self.kafka_config.clone(), self.properties.clone()))
    }

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

/// Sets a property unless the user has set it.
pub fn set_default(config: &mut ClientConfig, property: &str, value: impl Into<String>) {
    if config.get(property).is_none() {
        config.set(property, value);
    }
}
