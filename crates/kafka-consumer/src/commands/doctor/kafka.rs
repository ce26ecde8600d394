//! Checks Kafka: connection, topic settings, privileges, open transactions and retention.

use std::collections::BTreeMap;
use std::time::Duration;

use event_model::MAX_VALUE_BYTES;
use pipeline_runtime::kafka::{
    ClientErrors, Connection, TopicError, Watermarks, topic_configuration, topic_partitions, watermarks,
};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task;

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::{Finding, Findings};
use crate::kafka::client;

const TIMEOUT: Duration = Duration::from_secs(8);
/// Shorter retention gets a warning: a consumer that is down overnight would lose records.
const SHORT_RETENTION: Duration = Duration::from_hours(24);

/// Checks Kafka. Returns the findings, and the watermarks by partition for comparison with the group's offsets.
pub(crate) async fn examine(settings: &DoctorConfig) -> (Vec<Finding>, BTreeMap<i32, Watermarks>) {
    let mut lines = Findings::of("kafka");
    let mut watermarks = BTreeMap::new();
    let (config, topic) = (&settings.client, &settings.group_topic.topic);
    match topic_partitions(config, topic).await {
        Err(error) => {
            let fix = match &error {
                TopicError::Unreachable { .. } => "start Kafka, or set --bootstrap-servers",
                TopicError::ConnectionRejected { .. } => {
                    "set the security.* and sasl.* properties with -X or --kafka-config (docs/security.md)"
                }
                _ => "grant the Kafka user DESCRIBE on the topic (docs/security.md)",
            };
            lines.bad("brokers", error.to_string(), fix);
            return (lines.lines, watermarks);
        }
        Ok(None) => {
            lines.good("brokers", settings.kafka.bootstrap_servers.clone());
            let fix =
                "create it, or let event-generator or 'kafka-consumer run --create-topic' create it with 6 partitions";
            lines.warn("topic", format!("{topic} does not exist"), fix);
            return (lines.lines, watermarks);
        }
        Ok(Some(partitions)) => {
            lines.good("brokers", settings.kafka.bootstrap_servers.clone());
            lines.good("topic", format!("{topic} has {partitions} partitions"));
            if let Some(needed) = settings.memory.too_small_for(usize::try_from(partitions).unwrap_or_default()) {
                let found = format!("{} is too small for {partitions} partitions", settings.memory.limit());
                lines.bad("memory limit", found, format!("pass --memory-limit {needed} to run"));
            }
        }
    }
    match topic_configuration(config, topic).await {
        Some(told) => check_topic(&told, topic, &mut lines),
        None => lines.warn(
            "topic settings",
            "not reported by the broker",
            "grant the Kafka user DESCRIBE_CONFIGS on the topic, or check the settings by hand",
        ),
    }
    let (config, topic) = (config.clone(), topic.clone());
    match task::spawn_blocking(move || read_rights(&config, &topic)).await {
        Ok(rights) => watermarks = rights.note(settings, &mut lines),
        Err(error) => lines.bad("read access", error.to_string(), "report this bug"),
    }
    (lines.lines, watermarks)
}

/// Checks the topic's settings.
fn check_topic(told: &BTreeMap<String, String>, topic: &str, lines: &mut Findings) {
    let number = |name: &str| told.get(name).and_then(|text| text.parse::<u64>().ok());
    let is = |name: &str, value: &str| told.get(name).is_some_and(|text| text.contains(value));
    let set = |name: &str, value: &str| {
        format!("kafka-configs.sh --bootstrap-server … --alter --topic {topic} --add-config {name}={value}")
    };
    if is("cleanup.policy", "compact") {
        let found = "compact: Kafka keeps only the last record of each key, so older events of a user are lost";
        lines.bad("cleanup.policy", found, set("cleanup.policy", "delete"));
    } else {
        lines.good("cleanup.policy", "delete");
    }
    match number("max.message.bytes") {
        Some(bytes) if bytes < MAX_VALUE_BYTES as u64 => lines.warn(
            "max.message.bytes",
            format!("{bytes} bytes: events may have up to {MAX_VALUE_BYTES}"),
            set("max.message.bytes", "1048588"),
        ),
        Some(bytes) => lines.good("max.message.bytes", bytes.to_string()),
        None => {}
    }
    if is("message.timestamp.type", "LogAppendTime") {
        lines.warn(
            "message.timestamp.type",
            "LogAppendTime: age limits and latency are measured from the broker's clock",
            set("message.timestamp.type", "CreateTime"),
        );
    } else {
        lines.good("message.timestamp.type", "CreateTime");
    }
    match number("retention.ms").map(Duration::from_millis) {
        Some(kept) if kept < SHORT_RETENTION => lines.warn(
            "retention.ms",
            format!("records are kept for {}: a consumer that is down longer loses records", hours(kept)),
            set("retention.ms", "604800000"),
        ),
        Some(kept) => lines.good("retention.ms", format!("records are kept for {}", hours(kept))),
        None => lines.good("retention.ms", "records are kept indefinitely"),
    }
}

/// Results of requests that need privileges.
struct Rights {
    topic: Result<(), KafkaError>,
    group: Result<(), KafkaError>,
    spans: BTreeMap<i32, Watermarks>,
    /// Number of offsets between the last stable offset and the high watermark, by partition. An open transaction holds
    /// back the records there.
    held_back: BTreeMap<i32, i64>,
}

fn read_rights(config: &ClientConfig, topic: &str) -> Rights {
    let mut rights = Rights { topic: Ok(()), group: Ok(()), spans: BTreeMap::new(), held_back: BTreeMap::new() };
    let consumer = match BaseConsumer::from_config_and_context(config, ClientErrors::default()) {
        Ok(consumer) => consumer,
        Err(error) => return Rights { topic: Err(error), ..rights },
    };
    // Read the high watermarks first: a last stable offset that is read later is lower only if a transaction is open.
    let high = high_watermarks(config, topic).unwrap_or_default();
    rights.topic = read_a_record(&consumer, topic, &mut rights.spans);
    let held_back = |(partition, high): (i32, i64)| {
        let stable = rights.spans.get(&partition)?.high;
        (stable < high).then_some((partition, high - stable))
    };
    rights.held_back = high.into_iter().filter_map(held_back).collect();
    rights.group = ask_the_group(&consumer, topic);
    rights
}

fn high_watermarks(config: &ClientConfig, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let observer = client::observer(config, &Connection::default())?;
    let partitions = watermarks::partitions(&observer, topic, TIMEOUT)?;
    watermarks::ends(&observer, topic, &partitions, TIMEOUT)
}

fn read_a_record(
    consumer: &BaseConsumer<ClientErrors>,
    topic: &str,
    spans: &mut BTreeMap<i32, Watermarks>,
) -> Result<(), KafkaError> {
    let partitions = watermarks::partitions(consumer, topic, TIMEOUT)?;
    *spans = watermarks::watermarks(consumer, topic, &partitions, TIMEOUT)?;
    let mut list = TopicPartitionList::new();
    for (partition, span) in spans.iter() {
        list.add_partition_offset(topic, *partition, Offset::Offset(span.low))?;
    }
    consumer.assign(&list)?;
    match consumer.poll(TIMEOUT) {
        None | Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {}
        Some(Err(error)) => return Err(error),
    }
    consumer.unassign()
}

fn ask_the_group(consumer: &BaseConsumer<ClientErrors>, topic: &str) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let committed = consumer.committed_offsets(list, TIMEOUT)?;
    committed.elements().iter().try_for_each(TopicPartitionListElem::error)
}

impl Rights {
    /// Adds the findings. Returns the watermarks.
    fn note(self, settings: &DoctorConfig, lines: &mut Findings) -> BTreeMap<i32, Watermarks> {
        let (topic, group) = (&settings.group_topic.topic, &settings.group_topic.group);
        match self.topic {
            Ok(()) => lines.good("read access", "records can be read"),
            Err(error) => {
                lines.bad("read access", error.to_string(), right(&error, &format!("READ on the topic {topic}")));
            }
        }
        match self.group {
            Ok(()) => lines.good("group access", format!("group {group} can be used")),
            Err(error) => {
                lines.bad("group access", error.to_string(), right(&error, &format!("READ on the group {group}")));
            }
        }
        for (partition, records) in &self.held_back {
            lines.warn(
                "open transactions",
                format!("partition {partition}: {records} records are held back by a producer's open transaction"),
                format!(
                    "if it stays open, find it with 'kafka-transactions.sh find-hanging --topic {topic}' and abort it"
                ),
            );
        }
        self.spans
    }
}

fn right(error: &KafkaError, which: &str) -> String {
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
            format!("grant the Kafka user {which}")
        }
        _ => format!("check the brokers, and grant the Kafka user {which}"),
    }
}

/// Compares the group's offsets with the watermarks. Reports the lag, or a partition whose unread records retention has
/// already removed.
pub(crate) fn retention_against_lag(
    watermarks: &BTreeMap<i32, Watermarks>,
    offsets: &BTreeMap<i32, i64>,
) -> Vec<Finding> {
    let mut lines = Findings::of("kafka");
    if watermarks.is_empty() || offsets.is_empty() {
        return lines.lines;
    }
    let behind = |(partition, next): (&i32, &i64)| {
        let Watermarks { low, high } = *watermarks.get(partition)?;
        Some((*partition, *next, low, high))
    };
    let all: Vec<_> = offsets.iter().filter_map(behind).collect();
    let lag: i64 = all.iter().map(|(_, next, _, high)| (high - next).max(0)).sum();
    match all.iter().find(|(_, next, low, _)| next < low) {
        Some((partition, next, low, _)) => lines.bad(
            "unread records",
            format!(
                "partition {partition} resumes at {next}, but its oldest record is {low}: retention deleted {}",
                low - next
            ),
            "resume with 'kafka-consumer run --allow-data-loss'; load the lost rows with 'kafka-consumer rebuild'",
        ),
        None => lines.good("unread records", format!("{lag} unread records, none deleted by retention")),
    }
    lines.lines
}

fn hours(time: Duration) -> String {
    let hours = time.as_secs() / 3_600;
    if hours >= 48 { format!("{} days", hours / 24) } else { format!("{hours} hours") }
}
