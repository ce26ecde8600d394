//! Moves a group's offsets while the group has no active consumer.
//!
//! Moving a group back creates no second row: an event that is already in the table counts as a duplicate, and a dead
//! letter counts another attempt. The fingerprint remains that of the last record read, at any new offset, so it still
//! identifies the topic.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pipeline_runtime::START_LOCAL_STACK;
use pipeline_runtime::kafka::Watermarks;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::groups::GroupMemberInfo;
use tokio::task;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

use crate::ingest::offsets::resume::Resume;
use crate::kafka::context::Kafka;
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::start_offset::{StartOffset, partitions, start_offsets, watermarks};
use crate::postgres;

/// Timeout for listing the members of the group.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Target offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetTo {
    /// Moves all partitions.
    All(StartOffset),
    /// Moves single partitions, each to its offset.
    Offsets(BTreeMap<i32, i64>),
}

impl fmt::Display for SetTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(StartOffset::Time(time)) => write!(f, "--to-time {time}"),
            Self::All(start) => write!(f, "--to-{start}"),
            Self::Offsets(offsets) => {
                f.write_str("--to-offset ")?;
                for (place, (partition, offset)) in offsets.iter().enumerate() {
                    write!(f, "{}{partition}:{offset}", if place == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// Move of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) partition: i32,
    /// Former next offset; the beginning of the partition if the group has not seen it.
    pub(crate) from: i64,
    /// New next offset.
    pub(crate) to: i64,
}

/// Offsets are counted instead of records: transaction markers and compaction leave offsets without a record.
impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, from, to } = *self;
        write!(f, "partition {partition}: {from} to {to}")?;
        let verb = match to.cmp(&from) {
            Ordering::Equal => return f.write_str(", unchanged"),
            Ordering::Greater => "skips",
            Ordering::Less => "rereads",
        };
        let count = to.abs_diff(from);
        write!(f, ", {verb} up to {count} {}", if count == 1 { "record" } else { "records" })
    }
}

/// Locks the rows that a consumer's transaction would update. `NOWAIT` fails instead of waiting for that transaction.
const LOCK: &str = "SELECT partition, next_offset FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2 ORDER BY partition FOR UPDATE NOWAIT";

/// Updates the rows of partitions, and inserts those of partitions that were added to the topic since the group began.
const MOVE: &str =
    "INSERT INTO pipeline.consumer_offsets AS row (consumer_group, topic, partition, next_offset, topic_id)
    SELECT $1, $2, moved.partition, moved.next_offset, $5::uuid
    FROM unnest($3::integer[], $4::bigint[]) AS moved (partition, next_offset)
    ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET next_offset = excluded.next_offset,
        topic_id = coalesce(excluded.topic_id, row.topic_id), updated_at = now()";

const NOTE: &str =
    "INSERT INTO pipeline.offset_changes (consumer_group, topic, partition, from_offset, to_offset, target, reason)
    SELECT $1, $2, moved.partition, moved.from_offset, moved.to_offset, $6, $7
    FROM unnest($3::integer[], $4::bigint[], $5::bigint[]) AS moved (partition, from_offset, to_offset)";

/// Moves the offsets and records the change, its author and its reason, in one transaction.
///
/// Without a reason, it moves nothing and returns the moves that it would make. Fails if the group has members in Kafka,
/// if one of its transactions is open in PostgreSQL, if the topic is not the one that the group has read, or if Kafka does
/// not have a requested offset.
pub(crate) async fn set(
    client: &mut Client,
    resume: &Resume,
    to: &SetTo,
    reason: Option<&str>,
) -> anyhow::Result<Vec<Moved>> {
    refuse_while_active(&resume.kafka.current(), &resume.group_topic.group).await?;
    let transaction = client.transaction().await?;
    // From here on no consumer can move these offsets, so the checks below hold until the commit.
    let before = lock(&transaction, &resume.group_topic).await?;
    let id = resume.verify(&transaction).await?;
    let target = targets(&resume.kafka.current(), &resume.group_topic, to, &before).await?;
    let beginnings = start_offsets(&resume.kafka.current(), &resume.group_topic.topic, StartOffset::Earliest).await?;
    let from = |partition: &i32| before.get(partition).or_else(|| beginnings.get(partition)).copied();
    let moved = target.into_iter().filter_map(|(partition, to)| Some(Moved { partition, from: from(&partition)?, to }));
    let moved: Vec<Moved> = moved.collect();
    // A dry run rolls back the rows that `verify` may have moved to a recreated topic.
    let Some(reason) = reason else { return Ok(moved) };
    let GroupTopic { group, topic } = &resume.group_topic;
    let partitions: Vec<i32> = moved.iter().map(|one| one.partition).collect();
    let from: Vec<i64> = moved.iter().map(|one| one.from).collect();
    let target: Vec<i64> = moved.iter().map(|one| one.to).collect();
    let cannot = "cannot move the offsets";
    transaction.execute(MOVE, &[group, topic, &partitions, &target, &id]).await.context(cannot)?;
    let parameters: &[&(dyn ToSql + Sync)] = &[group, topic, &partitions, &from, &target, &to.to_string(), &reason];
    transaction.execute(NOTE, parameters).await.context(cannot)?;
    transaction
        .commit()
        .await
        .context("the offsets may not have been moved; check with 'kafka-consumer offsets show'")?;
    Ok(moved)
}

/// Fails if Kafka reports the group as active.
async fn refuse_while_active(kafka: &Kafka, group: &str) -> anyhow::Result<()> {
    let (kafka, name) = (Arc::clone(kafka), group.to_owned());
    let asked = task::spawn_blocking(move || active(&kafka, &name)).await?;
    let active = asked.with_context(|| {
        format!(
            "cannot check whether group {group} is active: no answer from Kafka; start the local stack with \
             '{START_LOCAL_STACK}', or set --bootstrap-servers"
        )
    })?;
    match active {
        None => Ok(()),
        Some(members) => bail!(
            "cannot move the offsets: group {group} is active in Kafka ({members}); stop its consumers, and wait for the \
             session timeout of a killed one"
        ),
    }
}

/// Returns the state and the members of the group. `None` if the group has no members.
fn active(kafka: &Kafka, group: &str) -> Result<Option<String>, KafkaError> {
    let groups = kafka.fetch_group_list(Some(group), TIMEOUT)?;
    let found = groups.groups().iter().find(|one| one.name() == group);
    let Some(found) = found.filter(|one| !matches!(one.state(), "" | "Empty" | "Dead")) else { return Ok(None) };
    let member = |one: &GroupMemberInfo| format!("{} at {}", one.client_id(), one.client_host());
    let members: Vec<String> = found.members().iter().map(member).collect();
    Ok(Some(format!("{}: {}", found.state(), members.join(", "))))
}

async fn lock(transaction: &Transaction<'_>, group_topic: &GroupTopic) -> anyhow::Result<BTreeMap<i32, i64>> {
    let key = format!("event-pipeline: offsets of {} in {}", group_topic.topic, group_topic.group);
    let free = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
    if !transaction.query_one(free, &[&key]).await?.get::<_, bool>(0) {
        bail!("cannot move the offsets: a consumer of group {} is starting; stop it", group_topic.group);
    }
    let rows = match transaction.query(LOCK, &[&group_topic.group, &group_topic.topic]).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => bail!(
            "cannot move the offsets: a transaction in PostgreSQL locks those of group {} ({}); stop its consumers",
            group_topic.group,
            postgres::describe(&error)
        ),
        other => other.context("cannot lock the offsets")?,
    };
    if rows.is_empty() {
        bail!(
            "cannot move the offsets: group {} has not read {} yet; start it with 'kafka-consumer run --start OFFSET'",
            group_topic.group,
            group_topic.topic
        );
    }
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the new offset of each partition. Fails if a requested offset is outside the range that Kafka has.
async fn targets(
    kafka: &Kafka,
    group_topic: &GroupTopic,
    to: &SetTo,
    before: &BTreeMap<i32, i64>,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let asked = match to {
        SetTo::All(start) => return Ok(start_offsets(kafka, &group_topic.topic, *start).await?),
        SetTo::Offsets(asked) => asked,
    };
    if let Some(unknown) = asked.keys().find(|partition| !before.contains_key(partition)) {
        bail!(
            "cannot move the offsets: group {} has no partition {unknown} of {}; correct --to-offset",
            group_topic.group,
            group_topic.topic
        );
    }
    let present = partitions(kafka, &group_topic.topic).await?;
    if let Some(retired) = asked.keys().find(|partition| !present.contains(partition)) {
        bail!(
            "cannot move partition {retired} of {}: the topic has {} partitions; choose one of these",
            group_topic.topic,
            present.len()
        );
    }
    let partitions: Vec<i32> = asked.keys().copied().collect();
    let ends = watermarks(kafka, &group_topic.topic, &partitions).await?;
    for (partition, offset) in asked {
        let Watermarks { low, high } = ends.get(partition).copied().unwrap_or_default();
        if !(low..=high).contains(offset) {
            bail!(
                "cannot move partition {partition} of {} to offset {offset}: Kafka has {low} to {high}; choose one of these",
                group_topic.topic
            );
        }
    }
    Ok(asked.clone())
}
