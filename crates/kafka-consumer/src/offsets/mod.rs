//! Where each partition goes on. PostgreSQL knows, not Kafka: the offsets move in the rows' own transactions.
//!
//! - [`first_start`]: a group that has never read the topic
//! - [`resume`]: one that has, and whether Kafka still has what comes next
//! - [`identity`]: the topic's ID, which tells a recreated topic
//! - [`watermarks`]: where Kafka's partitions begin and end
//! - [`show`], [`set`]: what people ask for

pub mod identity;
pub mod resume;
pub mod set;
pub mod show;
pub mod watermarks;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use event_model::Timestamp;
use rdkafka::consumer::BaseConsumer;
use tokio_postgres::Client;

use crate::batch::Mark;
use crate::source::Context as SourceContext;

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
    /// The last record that was read.
    pub last: Option<Mark>,
    /// One after the last record that is a dead letter; beyond the offset to go on from where that was set back.
    pub lettered_up_to: i64,
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
    // Asked before the offsets: if the topic is recreated in between, the next comparison finds the other ID.
    let id = identity::topic_id(kafka, &claim.topic).await;
    let offsets = watermarks::start_offsets(kafka, &claim.topic, start).await?;
    let (partitions, next): (Vec<i32>, Vec<i64>) = offsets.into_iter().unzip();
    transaction.execute(INSERT, &[&claim.group, &claim.topic, &partitions, &next, &id]).await?;
    transaction.commit().await?;
    tracing::info!(group = claim.group, topic = claim.topic, partitions = partitions.len(), %start, "group starts");
    Ok(())
}

/// Rows of partitions that the group has not seen. They belong to the same incarnation as the group's other rows.
const INSERT: &str = "INSERT INTO pipeline.consumer_offsets
        (consumer_group, topic, partition, topic_incarnation, next_offset, topic_id)
    SELECT $1, $2, p.partition,
        (SELECT coalesce(max(topic_incarnation), 1) FROM pipeline.consumer_offsets
         WHERE consumer_group = $1 AND topic = $2),
        p.next_offset, $5
    FROM unnest($3::integer[], $4::bigint[]) AS p (partition, next_offset)
    ON CONFLICT DO NOTHING";
