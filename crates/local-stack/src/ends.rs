//! Where a topic's partitions end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};

/// How long a broker may take to lead all partitions.
const PATIENCE: Duration = Duration::from_mins(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The end offset of each partition, also of what no transaction has committed. A broker that has just come back may not
/// yet lead them all: it is asked again, for a minute.
pub fn end_offsets(bootstrap_servers: &str, topic: &str) -> KafkaResult<BTreeMap<i32, i64>> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("isolation.level", "read_uncommitted")
        .create()?;
    let deadline = Instant::now() + PATIENCE;
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
