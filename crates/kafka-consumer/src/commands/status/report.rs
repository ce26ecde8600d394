//! Collects the status of a group: offset, lag and counts of each partition from PostgreSQL and Kafka, and the latency
//! from the running consumer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use event_model::Timestamp;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::{Connection, KafkaArgs};
use rdkafka::config::ClientConfig;
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::commands::offsets::IS_RETIRED;
use crate::commands::status::latency::Latency;
use crate::kafka::client::{self, KafkaClient};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::observability::lag::{self, PartitionEnd};
use crate::postgres::old_snapshots::{self, OldSnapshot};
use crate::postgres::{self, Conninfo};

/// Timeout for an answer from Kafka.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Status of a group.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) group: String,
    pub(crate) topic: String,
    /// Status of each partition. Empty if the group has not read the topic yet.
    pub(crate) partitions: Vec<PartitionStatus>,
    /// Dead letters that are neither replayed nor discarded, by reason code, in descending order of their number.
    pub(crate) dead_letters: Vec<Reason>,
    /// Holders of old snapshots, which slow down the updates of the offsets.
    pub(crate) old_snapshots: Vec<OldSnapshot>,
    /// Error that left the ends of the partitions unknown.
    pub(crate) kafka_error: Option<String>,
    /// Latency, if a running consumer of this group and topic answered.
    pub(crate) latency: Option<Latency>,
    /// Address at which the latency was requested.
    #[serde(skip)]
    pub(crate) http_addr: HttpAddr,
}

/// Status of a partition. The counts are the group's, since it began.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PartitionStatus {
    /// Partition number.
    pub(crate) partition: i32,
    /// True if the recreated topic does not have the partition. It has no end and no lag.
    pub(crate) retired: bool,
    /// Next offset.
    pub(crate) next_offset: i64,
    /// High watermark.
    pub(crate) end: Option<i64>,
    /// Number of offsets from the next offset to the high watermark.
    pub(crate) lag: Option<i64>,
    /// Last stable offset; later records are held back by an open transaction. Equal to `end` without one.
    pub(crate) last_stable_offset: Option<i64>,
    /// Timestamp of the first record of that transaction.
    pub(crate) open_transaction_since: Option<Timestamp>,
    /// Seconds since the last commit.
    pub(crate) last_commit_seconds_ago: f64,
    /// Number of committed records: rows, duplicates, dead letters, expired and suppressed events.
    pub(crate) records: i64,
    /// Number of inserted rows.
    pub(crate) rows: i64,
    /// Number of records whose `event_id` already existed on that day.
    pub(crate) duplicates: i64,
    /// Number of duplicates whose content differs from the row in the table.
    pub(crate) duplicates_differing: i64,
    /// Number of dead letters.
    pub(crate) dead_letters: i64,
    /// Number of events of days that retention has dropped.
    pub(crate) expired: i64,
    /// Number of rows that a trigger suppressed or redirected.
    pub(crate) suppressed: i64,
}

/// Number of dead letters with the same reason.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reason {
    /// Reason code.
    pub(crate) reason_code: String,
    pub(crate) count: i64,
}

const REASONS: &str = "SELECT reason_code, count(*) FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND replayed_at IS NULL AND discarded_at IS NULL
    GROUP BY reason_code ORDER BY count(*) DESC, reason_code";

/// Collects the status from PostgreSQL, Kafka and the running consumer. Fails only if PostgreSQL does not answer.
pub(crate) async fn ask(
    kafka: &KafkaArgs,
    target: &Conninfo,
    group_topic: GroupTopic,
    http: &HttpAddr,
) -> Result<Status, Failure> {
    let config = client::client_config(kafka, &group_topic.group)?;
    let client = postgres::connect_at_start(target).await?;
    let mut partitions = partitions(&client, &group_topic).await?;
    let (dead_letters, kafka_error, latency) = if partitions.is_empty() {
        (Vec::new(), None, None)
    } else {
        let error = set_ends(&config, &group_topic.topic, &mut partitions).await;
        (dead_letters(&client, &group_topic).await?, error, Latency::ask(http, &group_topic).await)
    };
    let old_snapshots = old_snapshots::find(&client).await.context("cannot read the sessions of PostgreSQL")?;
    let GroupTopic { group, topic } = group_topic;
    Ok(Status { group, topic, partitions, dead_letters, old_snapshots, kafka_error, latency, http_addr: http.clone() })
}

async fn partitions(client: &Client, group_topic: &GroupTopic) -> anyhow::Result<Vec<PartitionStatus>> {
    let partitions = format!(
        "SELECT partition, next_offset, records, rows_inserted, duplicates, duplicates_differing, dead_letters, expired,
            suppressed, extract(epoch FROM clock_timestamp() - updated_at)::float8, {IS_RETIRED}
        FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 ORDER BY partition"
    );
    let rows = match client.query(&partitions, &[&group_topic.group, &group_topic.topic]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        other => other.context("cannot read the offsets")?,
    };
    let partition = |row: &tokio_postgres::Row| PartitionStatus {
        partition: row.get(0),
        retired: row.get(10),
        next_offset: row.get(1),
        end: None,
        lag: None,
        last_stable_offset: None,
        open_transaction_since: None,
        last_commit_seconds_ago: row.get::<_, f64>(9).max(0.0),
        records: row.get(2),
        rows: row.get(3),
        duplicates: row.get(4),
        duplicates_differing: row.get(5),
        dead_letters: row.get(6),
        expired: row.get(7),
        suppressed: row.get(8),
    };
    Ok(rows.iter().map(partition).collect())
}

async fn dead_letters(client: &Client, group_topic: &GroupTopic) -> anyhow::Result<Vec<Reason>> {
    let rows = client
        .query(REASONS, &[&group_topic.group, &group_topic.topic])
        .await
        .context("cannot read the dead letters")?;
    Ok(rows.iter().map(|row| Reason { reason_code: row.get(0), count: row.get(1) }).collect())
}

/// Sets the ends of the partitions. Returns the error if they are unknown.
async fn set_ends(config: &ClientConfig, topic: &str, partitions: &mut [PartitionStatus]) -> Option<String> {
    let numbers = partitions.iter().filter(|one| !one.retired).map(|one| one.partition).collect();
    let (ends, error) = match ends(config, topic, numbers).await {
        Ok(ends) => (ends, None),
        Err(error) => (BTreeMap::new(), Some(format!("{error:#}"))),
    };
    for one in partitions {
        let Some(PartitionEnd { high, held_back }) = ends.get(&one.partition) else { continue };
        one.end = Some(*high);
        one.lag = Some((high - one.next_offset).max(0));
        one.last_stable_offset = Some(held_back.map_or(*high, |held| held.stable));
        one.open_transaction_since = held_back.map(|held| held.since);
    }
    error
}

async fn ends(config: &ClientConfig, topic: &str, partitions: Vec<i32>) -> anyhow::Result<BTreeMap<i32, PartitionEnd>> {
    let kafka = KafkaClient::new(config, None, &Connection::default())
        .map_err(|error| anyhow!("cannot create the Kafka client: {error}"))?;
    let uncommitted = RecordLookup::new(&client::uncommitted(config), topic, kafka.connection());
    lag::ask_once(&kafka, topic, &uncommitted, partitions, TIMEOUT).await
}
