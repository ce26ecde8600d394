//! End offsets of a topic's partitions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};

/// Deadline for the broker to lead all partitions.
const TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Returns the end offset of each partition, including uncommitted records.
///
/// Retries for a minute: a broker that has just restarted may not lead all partitions yet.
pub fn end_offsets(bootstrap_servers: &str, topic: &str) -> KafkaResult<BTreeMap<i32, i64>> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("isolation.level", "read_uncommitted")
        .create()?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let ends = ask(&client, topic);
        if ends.is_ok() || Instant::now() >= deadline {
            return ends;
        }
    }
}

fn ask(client: &BaseConsumer, topic: &str) -> KafkaResult<BTreeMap<i32, i64>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_LIMIT)?;
    let ids = metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id);
    ids.map(|id| Ok((id, client.fetch_watermarks(topic, id, ANSWER_LIMIT)?.1))).collect()
}
