//! Where a group stands: each partition's offset, lag and counts from PostgreSQL and Kafka, the latency from the running
//! consumer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use event_model::Timestamp;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use rdkafka::config::ClientConfig;
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::commands::status::latency::Latency;
use crate::kafka::client::{self, KafkaClient};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::observability::lag::{self, PartitionEnd};
use crate::postgres::{self, Conninfo};

/// How long Kafka may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a group stands.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// The consumer group.
    pub(crate) group: String,
    /// The topic.
    pub(crate) topic: String,
    /// By partition; empty where the group has not read the topic yet.
    pub(crate) partitions: Vec<PartitionStatus>,
    /// Dead letters that are neither replayed nor discarded, by reason code, most first.
    pub(crate) dead_letters: Vec<Reason>,
    /// Why Kafka did not tell where the partitions end.
    pub(crate) kafka_error: Option<String>,
    /// The latency, if a running consumer of this group and topic was reached.
    pub(crate) latency: Option<Latency>,
    /// Where it was looked for.
    #[serde(skip)]
    pub(crate) http_addr: HttpAddr,
}

/// A partition. Counts are the group's, since it began.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PartitionStatus {
    /// Its number.
    pub(crate) partition: i32,
    /// The offset that comes next.
    pub(crate) next_offset: i64,
    /// High watermark.
    pub(crate) end: Option<i64>,
    /// How many offsets lie between.
    pub(crate) lag: Option<i64>,
    /// Last stable offset; later records are held back by an open transaction. Equal to `end` without one.
    pub(crate) last_stable_offset: Option<i64>,
    /// Timestamp of the first record of that transaction.
    pub(crate) open_transaction_since: Option<Timestamp>,
    /// Seconds since the last commit.
    pub(crate) last_commit_seconds_ago: f64,
    /// Records: rows, duplicates, dead letters, expired and suppressed ones.
    pub(crate) records: i64,
    /// Rows.
    pub(crate) rows: i64,
    /// Records whose `event_id` was there already.
    pub(crate) duplicates: i64,
    /// Those with other content.
    pub(crate) duplicates_differing: i64,
    /// Dead letters.
    pub(crate) dead_letters: i64,
    /// Rows of days that retention has taken.
    pub(crate) expired: i64,
    /// Rows that a trigger suppressed or redirected.
    pub(crate) suppressed: i64,
}

/// A reason for dead letters.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reason {
    /// Its code.
    pub(crate) reason_code: String,
    /// How many.
    pub(crate) count: i64,
}

const PARTITIONS: &str =
    "SELECT partition, next_offset, records, rows_inserted, duplicates, duplicates_differing, dead_letters, expired,
        suppressed, extract(epoch FROM clock_timestamp() - updated_at)::float8
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 ORDER BY partition";

const REASONS: &str = "SELECT reason_code, count(*) FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND replayed_at IS NULL AND discarded_at IS NULL
    GROUP BY reason_code ORDER BY count(*) DESC, reason_code";

/// Asks PostgreSQL, Kafka and the running consumer. Only PostgreSQL has to answer.
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
    let GroupTopic { group, topic } = group_topic;
    Ok(Status { group, topic, partitions, dead_letters, kafka_error, latency, http_addr: http.clone() })
}

async fn partitions(client: &Client, group_topic: &GroupTopic) -> anyhow::Result<Vec<PartitionStatus>> {
    let rows = match client.query(PARTITIONS, &[&group_topic.group, &group_topic.topic]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        other => other.context("the offsets cannot be read")?,
    };
    let partition = |row: &tokio_postgres::Row| PartitionStatus {
        partition: row.get(0),
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
        .context("the dead letters cannot be read")?;
    Ok(rows.iter().map(|row| Reason { reason_code: row.get(0), count: row.get(1) }).collect())
}

/// Notes where the partitions end; returns why that is not known.
async fn set_ends(config: &ClientConfig, topic: &str, partitions: &mut [PartitionStatus]) -> Option<String> {
    let numbers = partitions.iter().map(|one| one.partition).collect();
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
    let kafka = KafkaClient::new(config, None).map_err(|error| anyhow!("no Kafka client: {error}"))?;
    lag::ask_once(&kafka, topic, &RecordLookup::new(&client::uncommitted(config), topic), partitions, PATIENCE).await
}
