//! Properties of the producer.

use pipeline_runtime::kafka::{Guard, TopicSettings};
use rdkafka::config::ClientConfig;

use crate::clock::Pace;
use crate::memory::MemoryLimit;

/// Properties whose values a user cannot change.
pub(crate) const GUARDS: &[Guard] = &[
    Guard { property: "enable.idempotence", value: Some("true"), because: ONCE_IN_ORDER },
    Guard { property: "acks", value: Some("all"), because: ALL_REPLICAS },
    Guard { property: "request.required.acks", value: Some("all"), because: ALL_REPLICAS },
    Guard { property: "partitioner", value: Some("murmur2_random"), because: JAVA_PARTITIONS },
    Guard { property: "message.timeout.ms", value: Some("0"), because: WAITS },
    Guard { property: "delivery.timeout.ms", value: Some("0"), because: WAITS },
    Guard { property: "retries", value: None, because: WAITS },
    Guard { property: "message.send.max.retries", value: None, because: WAITS },
    Guard { property: "queuing.strategy", value: Some("fifo"), because: ONCE_IN_ORDER },
    Guard { property: "delivery.report.only.error", value: Some("false"), because: COUNTED },
    Guard { property: "transactional.id", value: None, because: "the generator does not use transactions" },
];

const ONCE_IN_ORDER: &str = "without it, a retry could duplicate or reorder records";
const ALL_REPLICAS: &str = "a record counts as sent once all in-sync replicas have it";
const JAVA_PARTITIONS: &str = "a user's events must go to the partition that Java producers choose for the key";
const WAITS: &str = "records are retried through an outage and never dropped silently";
const COUNTED: &str = "the delivery of every record is counted";

/// Properties that override the user's.
const FIXED: [(&str, &str); 4] =
    [("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random"), ("message.timeout.ms", "0")];

/// Maximum size of a batch.
const BATCH_BYTES: u64 = 128 * 1024;

/// Minimum `max.message.bytes` of a topic: the size of a large event with its headers.
pub(crate) const MIN_MESSAGE_BYTES: u64 = 4_096;

/// Returns the properties of the producer: our defaults, overridden by the user's, overridden by [`FIXED`].
pub(crate) fn producer_config(
    user: &ClientConfig,
    pace: Pace,
    topic: TopicSettings,
    memory: MemoryLimit,
) -> ClientConfig {
    let batch = topic.max_message_bytes.map_or(BATCH_BYTES, |max| max.min(BATCH_BYTES));
    let defaults = [
        // A live record should not wait; a backfill is cheaper in full batches.
        ("linger.ms", if pace == Pace::Max { "50" } else { "5" }.to_owned()),
        ("batch.size", batch.to_string()),
        ("compression.type", "lz4".to_owned()),
        ("queue.buffering.max.messages", memory.queue_messages().to_string()),
        ("queue.buffering.max.kbytes", memory.queue_kbytes().to_string()),
        ("client.id", "event-generator".to_owned()),
    ];
    let mut config = user.clone();
    for (property, value) in defaults {
        if !aliases(property).iter().any(|name| user.get(name).is_some()) {
            config.set(property, value);
        }
    }
    for (property, value) in FIXED {
        config.set(property, value);
    }
    config
}

/// Returns the maximum size of a batch with these properties.
pub(super) fn batch_bytes(config: &ClientConfig) -> u64 {
    config.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES)
}

/// Returns the names of a property in librdkafka, including its alias.
fn aliases(property: &str) -> &[&str] {
    match property {
        "linger.ms" => &["linger.ms", "queue.buffering.max.ms"],
        "compression.type" => &["compression.type", "compression.codec"],
        "batch.size" => &["batch.size"],
        "queue.buffering.max.messages" => &["queue.buffering.max.messages"],
        "queue.buffering.max.kbytes" => &["queue.buffering.max.kbytes"],
        _ => &["client.id"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: TopicSettings =
        TopicSettings { max_message_bytes: None, retention_ms: None, log_append_time: false };

    #[test]
    fn users_tune_but_do_not_loosen() {
        let mut user = ClientConfig::new();
        user.set("queue.buffering.max.ms", "1").set("acks", "1");
        let config = producer_config(&user, Pace::Max, UNKNOWN, MemoryLimit::default());
        assert_eq!(config.get("linger.ms"), None);
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("message.timeout.ms"), Some("0"));
        assert!(config.create_native_config().is_ok());
    }

    #[test]
    fn batches_fit_the_topic() {
        let topic = TopicSettings { max_message_bytes: Some(100_000), ..UNKNOWN };
        let config = producer_config(&ClientConfig::new(), Pace::Live, topic, MemoryLimit::default());
        assert_eq!(config.get("batch.size"), Some("100000"));
        assert_eq!(config.get("linger.ms"), Some("5"));
    }
}
