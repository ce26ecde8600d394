//! Initial offsets of a group that has never read the topic.

use anyhow::Context;
use tokio_postgres::Client;

use crate::kafka::context::Kafka;
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::start_offset::{self, StartOffset};
use crate::kafka::topic_identity;

/// Inserts the offsets of all partitions in one transaction, unless the group has any. If several consumers start at
/// the same time, one of them does it: the others wait for its advisory lock. A partition that has no offset later is
/// therefore a new one.
pub(crate) async fn insert_initial_offsets(
    client: &mut Client,
    group_topic: &GroupTopic,
    kafka: &Kafka,
    start: StartOffset,
) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let key = format!("event-pipeline: offsets of {} in {}", group_topic.topic, group_topic.group);
    transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
    let known = "SELECT FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 LIMIT 1";
    if transaction.query_opt(known, &[&group_topic.group, &group_topic.topic]).await?.is_some() {
        return Ok(());
    }
    // The ID is requested before the offsets: if the topic is recreated in between, the next comparison finds the other
    // ID.
    let id = topic_identity::topic_id(kafka, &group_topic.topic).await;
    let offsets = start_offset::start_offsets(kafka, &group_topic.topic, start)
        .await
        .context("cannot read the partition offsets from Kafka")?;
    let (partitions, next): (Vec<i32>, Vec<i64>) = offsets.into_iter().unzip();
    transaction.execute(INSERT, &[&group_topic.group, &group_topic.topic, &partitions, &next, &id]).await?;
    transaction.commit().await?;
    tracing::info!(group = group_topic.group, topic = group_topic.topic, partitions = partitions.len(), %start, "initial offsets stored");
    Ok(())
}

/// Inserts rows for partitions that the group has not read. They get the same incarnation as the group's other rows.
pub(crate) const INSERT: &str = "INSERT INTO pipeline.consumer_offsets
        (consumer_group, topic, partition, topic_incarnation, next_offset, topic_id)
    SELECT $1, $2, p.partition,
        (SELECT coalesce(max(topic_incarnation), 1) FROM pipeline.consumer_offsets
         WHERE consumer_group = $1 AND topic = $2),
        p.next_offset, $5
    FROM unnest($3::integer[], $4::bigint[]) AS p (partition, next_offset)
    ON CONFLICT DO NOTHING";
