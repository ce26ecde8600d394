//! Offset updates of a transaction: a compare-and-set moves the offsets first, and their counts are corrected at the
//! end.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use ingest_protocol::ownership::Ownership;
use ingest_protocol::position::RecordPosition;
use ingest_protocol::settlement::StoredOffset;
use tokio_postgres::{Client, Statement, Transaction};

use crate::ingest::batch::closed::{Batch, Part};
use crate::ingest::offsets::corrections::CountCorrections;
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::bigint;

/// Prepared statements that move offsets.
pub(crate) struct OffsetUpdates {
    group_topic: GroupTopic,
    forward: Statement,
    stored: Statement,
    correct: Statement,
}

/// Moves the offset only from where this writer left it, and only of the topic that it read: the offset of a recreated
/// topic may have reached the same value. `StoredOffset::may_move_from` has the same condition. Every record is counted as a row or a dead letter here, and `CORRECT` adjusts
/// the counts.
const FORWARD: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = $5, fingerprint_offset = coalesce($6, fingerprint_offset), fingerprint = coalesce($7, fingerprint),
        records = records + $8, rows_inserted = rows_inserted + $9, dead_letters = dead_letters + $10, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4 AND topic_incarnation = $11";

const STORED: &str = "SELECT partition, next_offset, topic_incarnation, fingerprint_offset, fingerprint
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)";

const CORRECT: &str = "UPDATE pipeline.consumer_offsets
    SET rows_inserted = rows_inserted - $4 - $6 - $7 - $8, duplicates = duplicates + $4,
        duplicates_differing = duplicates_differing + $5, dead_letters = dead_letters + $6, expired = expired + $7,
        suppressed = suppressed + $8
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3";

impl OffsetUpdates {
    pub(crate) async fn prepare(client: &Client, group_topic: &GroupTopic) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            group_topic: group_topic.clone(),
            forward: client.prepare(FORWARD).await?,
            stored: client.prepare(STORED).await?,
            correct: client.prepare(CORRECT).await?,
        })
    }

    /// Moves the offsets of a batch's partitions in ascending order: a common order of row locks prevents deadlocks
    /// between sessions. Returns the partitions whose offset is not where its writer left it.
    pub(crate) async fn forward(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        owned: &Ownership,
    ) -> Result<Vec<i32>, tokio_postgres::Error> {
        let moves = batch.parts.iter().map(|(partition, part)| self.forward_one(transaction, *partition, part, owned));
        // Pipelined: the statements are sent in this order, without waiting for each answer.
        let moves: Vec<_> = moves.collect();
        Ok(try_join_all(moves).await?.into_iter().flatten().collect())
    }

    async fn forward_one(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        part: &Part,
        owned: &Ownership,
    ) -> Result<Option<i32>, tokio_postgres::Error> {
        let Some(owned) = owned.get(partition) else { return Ok(Some(partition)) };
        let (offset, fingerprint) = part.last.map(|last| (last.offset, last.fingerprint)).unzip();
        let rows = part.rows.count();
        let moved = transaction
            .execute(
                &self.forward,
                &[
                    &self.group_topic.group,
                    &self.group_topic.topic,
                    &partition,
                    &owned.position.next_offset,
                    &part.next_offset,
                    &offset,
                    &fingerprint,
                    &bigint(part.records),
                    &bigint(rows),
                    &bigint(part.records - rows),
                    &owned.position.incarnation,
                ],
            )
            .await?;
        Ok((moved != 1).then_some(partition))
    }

    /// Returns the offsets of partitions. Those that the transaction has moved are the new ones.
    pub(crate) async fn stored(
        &self,
        transaction: &Transaction<'_>,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, StoredOffset>, tokio_postgres::Error> {
        let GroupTopic { group, topic } = &self.group_topic;
        let rows = transaction.query(&self.stored, &[group, topic, &partitions]).await?;
        let stored = |row: &tokio_postgres::Row| {
            let last: (Option<i64>, Option<i64>) = (row.get(3), row.get(4));
            let last = last.0.zip(last.1).map(|(offset, fingerprint)| RecordPosition { offset, fingerprint });
            (row.get(0), StoredOffset { next_offset: row.get(1), incarnation: row.get(2), last })
        };
        Ok(rows.iter().map(stored).collect())
    }

    /// Applies corrections to the counts of the partitions.
    pub(crate) async fn correct(
        &self,
        transaction: &Transaction<'_>,
        corrections: &BTreeMap<i32, CountCorrections>,
    ) -> Result<(), tokio_postgres::Error> {
        for (partition, one) in corrections.iter().filter(|(_, one)| **one != CountCorrections::default()) {
            let counts = [one.duplicates, one.differing, one.refused, one.expired, one.suppressed].map(bigint);
            let [duplicates, differing, refused, expired, suppressed] = &counts;
            let GroupTopic { group, topic } = &self.group_topic;
            let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                &[group, topic, partition, duplicates, differing, refused, expired, suppressed];
            transaction.execute(&self.correct, parameters).await?;
        }
        Ok(())
    }
}
