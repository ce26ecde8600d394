//! Where a group stands: each partition's offset, lag and counts from PostgreSQL and Kafka, the latency from the running
//! consumer.

mod latency;
mod table;

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

use crate::kafka_client::{self, KafkaClient};
use crate::lag::{self, End};
use crate::offsets::Claim;
use crate::postgres::{self, Target};
use crate::source::Reread;
use latency::Latency;

/// How long Kafka may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a group stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// By partition; empty where the group has not read the topic yet.
    pub partitions: Vec<Partition>,
    /// Dead letters that are neither replayed nor discarded, by reason code, most first.
    pub dead_letters: Vec<Reason>,
    /// Why Kafka did not tell where the partitions end.
    pub kafka_error: Option<String>,
    /// The latency, if a running consumer of this group and topic was reached.
    pub latency: Option<Latency>,
    /// Where it was looked for.
    #[serde(skip)]
    pub http_addr: HttpAddr,
}

/// A partition. Counts are the group's, since it began.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// The offset that comes next.
    pub next_offset: i64,
    /// High watermark.
    pub end: Option<i64>,
    /// How many offsets lie between.
    pub lag: Option<i64>,
    /// Last stable offset; later records are held back by an open transaction. Equal to `end` without one.
    pub last_stable_offset: Option<i64>,
    /// Timestamp of the first record of that transaction.
    pub open_transaction_since: Option<Timestamp>,
    /// Seconds since the last commit.
    pub last_commit_seconds_ago: f64,
    /// Records: rows, duplicates, dead letters, expired and suppressed ones.
    pub records: i64,
    /// Rows.
    pub rows: i64,
    /// Records whose `event_id` was there already.
    pub duplicates: i64,
    /// Those with other content.
    pub duplicates_differing: i64,
    /// Dead letters.
    pub dead_letters: i64,
    /// Rows of days that retention has taken.
    pub expired: i64,
    /// Rows that a trigger suppressed or redirected.
    pub suppressed: i64,
}

/// A reason for dead letters.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// Its code.
    pub reason_code: String,
    /// How many.
    pub count: i64,
}

const PARTITIONS: &str =
    "SELECT partition, next_offset, records, rows_inserted, duplicates, duplicates_differing, dead_letters, expired,
        suppressed, extract(epoch FROM clock_timestamp() - updated_at)::float8
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 ORDER BY partition";

const REASONS: &str = "SELECT reason_code, count(*) FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND replayed_at IS NULL AND discarded_at IS NULL
    GROUP BY reason_code ORDER BY count(*) DESC, reason_code";

/// Asks PostgreSQL, Kafka and the running consumer. Only PostgreSQL has to answer.
pub async fn ask(kafka: &KafkaArgs, target: &Target, claim: Claim, http: &HttpAddr) -> Result<Status, Failure> {
    let config = kafka_client::client_config(kafka, &claim.group)?;
    let client = postgres::connect_at_start(target).await?;
    let mut partitions = partitions(&client, &claim).await?;
    let (dead_letters, kafka_error, latency) = if partitions.is_empty() {
        (Vec::new(), None, None)
    } else {
        let error = set_ends(&config, &claim.topic, &mut partitions).await;
        (dead_letters(&client, &claim).await?, error, Latency::ask(http, &claim).await)
    };
    let Claim { group, topic } = claim;
    Ok(Status { group, topic, partitions, dead_letters, kafka_error, latency, http_addr: http.clone() })
}

async fn partitions(client: &Client, claim: &Claim) -> anyhow::Result<Vec<Partition>> {
    let rows = match client.query(PARTITIONS, &[&claim.group, &claim.topic]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        other => other.context("the offsets cannot be read")?,
    };
    let partition = |row: &tokio_postgres::Row| Partition {
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

async fn dead_letters(client: &Client, claim: &Claim) -> anyhow::Result<Vec<Reason>> {
    let rows = client.query(REASONS, &[&claim.group, &claim.topic]).await.context("the dead letters cannot be read")?;
    Ok(rows.iter().map(|row| Reason { reason_code: row.get(0), count: row.get(1) }).collect())
}

/// Notes where the partitions end; returns why that is not known.
async fn set_ends(config: &ClientConfig, topic: &str, partitions: &mut [Partition]) -> Option<String> {
    let numbers = partitions.iter().map(|one| one.partition).collect();
    let (ends, error) = match ends(config, topic, numbers).await {
        Ok(ends) => (ends, None),
        Err(error) => (BTreeMap::new(), Some(format!("{error:#}"))),
    };
    for one in partitions {
        let Some(End { high, held_back }) = ends.get(&one.partition) else { continue };
        one.end = Some(*high);
        one.lag = Some((high - one.next_offset).max(0));
        one.last_stable_offset = Some(held_back.map_or(*high, |held| held.stable));
        one.open_transaction_since = held_back.map(|held| held.since);
    }
    error
}

async fn ends(config: &ClientConfig, topic: &str, partitions: Vec<i32>) -> anyhow::Result<BTreeMap<i32, End>> {
    let kafka = KafkaClient::new(config, None).map_err(|error| anyhow!("no Kafka client: {error}"))?;
    lag::ask_once(&kafka, topic, &Reread::new(&kafka_client::uncommitted(config), topic), partitions, PATIENCE).await
}
