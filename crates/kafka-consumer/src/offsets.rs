//! Where each partition goes on. PostgreSQL knows, not Kafka: the offsets move in the rows' own transactions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use event_model::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task;
use tokio_postgres::Client;

use crate::postgres::{self, SqlFault, Target, classify};
use crate::source::Context as SourceContext;

const PATIENCE: Duration = Duration::from_secs(10);

/// Where a group that has never read the topic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest records that Kafka has.
    Beginning,
    /// With what comes from now on.
    End,
    /// With the first record of this time or later.
    Time(Timestamp),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            time => time.parse().map(Self::Time).map_err(|error| format!("not beginning, not end, and {error}")),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

/// Whose offsets of which topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
}

/// A partition's place in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset to go on from.
    pub next_offset: i64,
    /// How often the topic was made anew.
    pub incarnation: i32,
}

/// A consumer that asks about the topic.
pub type Kafka = Arc<BaseConsumer<SourceContext>>;

/// Writes the offsets of all partitions if the group has none yet, in one transaction. Of several consumers that start
/// at once one does it. A partition that has no offset later is therefore a new one.
pub async fn first_start(client: &mut Client, claim: &Claim, kafka: &Kafka, start: Start) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let key = format!("event-pipeline: offsets of {} in {}", claim.topic, claim.group);
    transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
    let known = "SELECT FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 LIMIT 1";
    if transaction.query_opt(known, &[&claim.group, &claim.topic]).await?.is_some() {
        return Ok(());
    }
    let offsets = start_offsets(kafka, &claim.topic, start).await?;
    let (partitions, next): (Vec<i32>, Vec<i64>) = offsets.into_iter().unzip();
    transaction.execute(INSERT, &[&claim.group, &claim.topic, &partitions, &next]).await?;
    transaction.commit().await?;
    tracing::info!(group = claim.group, topic = claim.topic, partitions = partitions.len(), %start, "group starts");
    Ok(())
}

const INSERT: &str = "INSERT INTO pipeline.consumer_offsets (consumer_group, topic, partition, next_offset)
    SELECT $1, $2, p.partition, p.next_offset FROM unnest($3::integer[], $4::bigint[]) AS p (partition, next_offset)
    ON CONFLICT DO NOTHING";

const SELECT: &str = "SELECT partition, next_offset, topic_incarnation FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)";

/// Where the partitions go on, over a session of its own. A partition that is new begins with its oldest record.
/// Fails where Kafka no longer has what comes next.
pub async fn positions(
    target: &Target,
    claim: &Claim,
    kafka: &Kafka,
    partitions: &[i32],
) -> anyhow::Result<BTreeMap<i32, Position>> {
    let client = postgres::connect(target).await?;
    let mut found = select(&client, claim, partitions).await?;
    let watermarks = watermarks(kafka, &claim.topic, partitions.to_vec()).await?;
    let new: Vec<i32> = partitions.iter().copied().filter(|partition| !found.contains_key(partition)).collect();
    if !new.is_empty() {
        let oldest: Vec<i64> = new.iter().map(|partition| watermarks.get(partition).map_or(0, |ends| ends.0)).collect();
        client.execute(INSERT, &[&claim.group, &claim.topic, &new, &oldest]).await?;
        found = select(&client, claim, partitions).await?;
    }
    for (partition, position) in &found {
        let (low, high) = watermarks.get(partition).copied().unwrap_or_default();
        gone(claim, *partition, position.next_offset, low, high)?;
    }
    Ok(found)
}

/// The same, with outages of PostgreSQL waited out.
pub async fn positions_in_the_end(
    target: &Target,
    claim: &Claim,
    kafka: &Kafka,
    partitions: &[i32],
) -> anyhow::Result<BTreeMap<i32, Position>> {
    let policy = ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).with_jitter().without_max_times();
    let passes = |error: &anyhow::Error| {
        error.downcast_ref::<tokio_postgres::Error>().is_some_and(|error| classify(error) == SqlFault::Retry)
    };
    (|| positions(target, claim, kafka, partitions))
        .retry(policy)
        .when(passes)
        .notify(|error, delay| tracing::warn!(%error, delay_ms = delay.as_millis(), "postgres retry"))
        .await
}

async fn select(
    client: &Client,
    claim: &Claim,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Position>, tokio_postgres::Error> {
    let rows = client.query(SELECT, &[&claim.group, &claim.topic, &partitions]).await?;
    Ok(rows.iter().map(|row| (row.get(0), Position { next_offset: row.get(1), incarnation: row.get(2) })).collect())
}

/// Says which records are gone, if some are.
fn gone(claim: &Claim, partition: i32, next: i64, low: i64, high: i64) -> anyhow::Result<()> {
    let Claim { group, topic } = claim;
    if next < low {
        bail!(
            "partition {partition} of {topic}: Kafka has no records before offset {low} any more, but group {group} has \
             read only up to {next}; retention took {} records",
            low - next
        );
    }
    if next > high {
        bail!(
            "partition {partition} of {topic} ends at offset {high}, but group {group} has read up to {next}: the topic \
             was deleted and made anew; another --group-id reads it from its start"
        );
    }
    Ok(())
}

/// The oldest and the next offset of each partition.
async fn watermarks(kafka: &Kafka, topic: &str, partitions: Vec<i32>) -> anyhow::Result<BTreeMap<i32, (i64, i64)>> {
    let ask = || async {
        let (kafka, topic, partitions) = (Arc::clone(kafka), topic.to_owned(), partitions.clone());
        let asked = task::spawn_blocking(move || {
            let ask = |partition| Ok((partition, kafka.fetch_watermarks(&topic, partition, PATIENCE)?));
            partitions.into_iter().map(ask).collect::<Result<_, KafkaError>>()
        });
        asked.await.map_err(|_| KafkaError::Canceled)?
    };
    // A topic that was made just now has no leaders for a moment.
    let policy = ConstantBuilder::default().with_delay(Duration::from_millis(100)).with_max_times(100);
    let passes = |error: &KafkaError| {
        matches!(
            error.rdkafka_error_code(),
            Some(
                Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
            )
        )
    };
    ask.retry(policy).when(passes).await.context("Kafka did not tell where the partitions begin and end")
}

async fn start_offsets(kafka: &Kafka, topic: &str, start: Start) -> anyhow::Result<BTreeMap<i32, i64>> {
    let partitions = partitions(kafka, topic).await?;
    let ends = watermarks(kafka, topic, partitions.clone()).await?;
    let at = match start {
        Start::Beginning => return Ok(ends.into_iter().map(|(partition, (low, _))| (partition, low)).collect()),
        Start::End => return Ok(ends.into_iter().map(|(partition, (_, high))| (partition, high)).collect()),
        Start::Time(time) => Offset::Offset(time.micros().div_euclid(1_000)),
    };
    let mut times = TopicPartitionList::new();
    for partition in partitions {
        times.add_partition_offset(topic, partition, at)?;
    }
    let kafka = Arc::clone(kafka);
    let found = task::spawn_blocking(move || kafka.offsets_for_times(times, PATIENCE)).await??;
    // Where no record is that young the partition's end is meant.
    Ok(ends
        .into_iter()
        .map(|(partition, (_, high))| {
            let offset = found.find_partition(topic, partition).and_then(|element| element.offset().to_raw());
            (partition, offset.filter(|offset| *offset >= 0).unwrap_or(high))
        })
        .collect())
}

async fn partitions(kafka: &Kafka, topic: &str) -> anyhow::Result<Vec<i32>> {
    let (kafka, name) = (Arc::clone(kafka), topic.to_owned());
    let metadata = task::spawn_blocking(move || kafka.fetch_metadata(Some(&name), PATIENCE)).await??;
    let found = metadata.topics().iter().find(|one| one.name() == topic).context("Kafka does not know the topic")?;
    Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}
