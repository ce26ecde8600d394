//! Offset updates of a transaction: a compare-and-set moves the offsets first, and their counts are corrected at the
//! end.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use ingest_protocol::ownership::Ownership;
use ingest_protocol::position::RecordPosition;
use ingest_protocol::settlement::StoredOffset;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement, Transaction};

use crate::ingest::batch::closed::{Batch, Part};
use crate::ingest::offsets::corrections::CountCorrections;
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::{RowAddress, bigint};

/// Prepared statements that move offsets.
pub(crate) struct OffsetUpdates {
    group_topic: GroupTopic,
    forward: RowUpdate,
    stored: Statement,
    correct: RowUpdate,
    /// Addresses of the rows that this session has committed, by partition.
    committed: BTreeMap<i32, RowAddress>,
    /// Addresses of the rows that the current transaction has updated.
    updated: BTreeMap<i32, RowAddress>,
}

/// Moves the offset only from where this writer left it, and only of the topic that it read: the offset of a recreated
/// topic may have reached the same value. `StoredOffset::may_move_from` has the same condition.
///
/// Every record is counted as a row or a dead letter here, and `CORRECT` adjusts the counts.
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

type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Update of one row, found by the address of its latest version or by the primary key.
///
/// While another session holds an old snapshot, PostgreSQL keeps every former version of the row, and the primary key
/// leads to all of them. The address leads to one.
struct RowUpdate {
    by_key: Statement,
    by_address: Statement,
}

impl RowUpdate {
    async fn prepare(client: &Client, update: &str, parameters: usize) -> Result<Self, Error> {
        let address = parameters + 1;
        Ok(Self {
            by_key: client.prepare(&format!("{update} RETURNING ctid")).await?,
            by_address: client.prepare(&format!("{update} AND ctid = ${address} RETURNING ctid")).await?,
        })
    }

    /// Updates the row and returns its new address. Returns `None` if no row meets the condition of the update.
    async fn execute(
        &self,
        transaction: &Transaction<'_>,
        known: Option<RowAddress>,
        parameters: Parameters<'_>,
    ) -> Result<Option<RowAddress>, Error> {
        let mut parameters = parameters;
        if let Some(address) = &known {
            parameters.push(address);
            if let Some(row) = transaction.query_opt(&self.by_address, &parameters).await? {
                return Ok(Some(row.get(0)));
            }
            // Another session has updated the row, or its table was rewritten.
            parameters.pop();
        }
        Ok(transaction.query_opt(&self.by_key, &parameters).await?.map(|row| row.get(0)))
    }
}

impl OffsetUpdates {
    pub(crate) async fn prepare(client: &Client, group_topic: &GroupTopic) -> Result<Self, Error> {
        Ok(Self {
            group_topic: group_topic.clone(),
            forward: RowUpdate::prepare(client, FORWARD, 11).await?,
            stored: client.prepare(STORED).await?,
            correct: RowUpdate::prepare(client, CORRECT, 8).await?,
            committed: BTreeMap::new(),
            updated: BTreeMap::new(),
        })
    }

    /// Moves the offsets of a batch's partitions in ascending order: a common order of row locks prevents deadlocks
    /// between sessions. Returns the partitions whose offset is not where its writer left it.
    pub(crate) async fn forward(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        owned: &Ownership,
    ) -> Result<Vec<i32>, Error> {
        self.updated.clear();
        let moves = batch.parts.iter().map(|(partition, part)| self.forward_one(transaction, *partition, part, owned));
        // Pipelined: the statements are sent in this order, without waiting for each answer.
        let moves: Vec<_> = moves.collect();
        let rows = try_join_all(moves).await?;
        let mut conflicts = Vec::new();
        for (partition, row) in batch.parts.keys().zip(rows) {
            match row {
                Some(row) => {
                    self.updated.insert(*partition, row);
                }
                None => conflicts.push(*partition),
            }
        }
        Ok(conflicts)
    }

    async fn forward_one(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        part: &Part,
        owned: &Ownership,
    ) -> Result<Option<RowAddress>, Error> {
        let Some(owned) = owned.get(partition) else { return Ok(None) };
        let (offset, fingerprint) = part.last.map(|last| (last.offset, last.fingerprint)).unzip();
        let rows = part.rows.count();
        let [records, inserted, letters] = [part.records, rows, part.records - rows].map(bigint);
        let GroupTopic { group, topic } = &self.group_topic;
        let parameters: Parameters<'_> = vec![
            group,
            topic,
            &partition,
            &owned.position.next_offset,
            &part.next_offset,
            &offset,
            &fingerprint,
            &records,
            &inserted,
            &letters,
            &owned.position.incarnation,
        ];
        self.forward.execute(transaction, self.committed.get(&partition).copied(), parameters).await
    }

    /// Returns the offsets of partitions. Those that the transaction has moved are the new ones.
    pub(crate) async fn stored(
        &self,
        transaction: &Transaction<'_>,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, StoredOffset>, Error> {
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
        &mut self,
        transaction: &Transaction<'_>,
        corrections: &BTreeMap<i32, CountCorrections>,
    ) -> Result<(), Error> {
        for (partition, one) in corrections.iter().filter(|(_, one)| **one != CountCorrections::default()) {
            let counts = [one.duplicates, one.differing, one.refused, one.expired, one.suppressed].map(bigint);
            let [duplicates, differing, refused, expired, suppressed] = &counts;
            let GroupTopic { group, topic } = &self.group_topic;
            let parameters: Parameters<'_> =
                vec![group, topic, partition, duplicates, differing, refused, expired, suppressed];
            let row = self.updated.get(partition).copied();
            if let Some(row) = self.correct.execute(transaction, row, parameters).await? {
                self.updated.insert(*partition, row);
            }
        }
        Ok(())
    }

    /// Notes that the transaction has committed: its rows are the latest versions.
    pub(crate) fn committed(&mut self) {
        self.committed.append(&mut self.updated);
    }
}
