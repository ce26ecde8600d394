//! The offsets' part of a transaction: they move first, by compare-and-set, and their counts are set right at its end.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Statement, Transaction};

use super::Owned;
use super::lookup::Known;
use crate::batch::{Batch, Part};
use crate::counters::Tally;
use crate::offsets::Claim;

/// The statements that move offsets.
pub(super) struct Moves {
    claim: Claim,
    forward: Statement,
    settled: Statement,
    correct: Statement,
}

/// Moves the offset only from where this writer left it, and only of the topic that it read: a recreated topic may have
/// come to the same offset. Every record counts as a row or a dead letter here.
const FORWARD: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = $5, fingerprint_offset = coalesce($6, fingerprint_offset), fingerprint = coalesce($7, fingerprint),
        records = records + $8, rows_inserted = rows_inserted + $9, dead_letters = dead_letters + $10, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4 AND topic_incarnation = $11";

/// Whether the offset stands where this very batch would have moved it.
const SETTLED: &str = "SELECT FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3
      AND next_offset = $4 AND ($5::bigint IS NULL OR (fingerprint_offset = $5 AND fingerprint = $6))";

const CORRECT: &str = "UPDATE pipeline.consumer_offsets
    SET rows_inserted = rows_inserted - $4 - $6 - $7 - $8, duplicates = duplicates + $4,
        duplicates_differing = duplicates_differing + $5, dead_letters = dead_letters + $6, expired = expired + $7,
        suppressed = suppressed + $8
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3";

/// Rows of a partition that did not become new rows after all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Corrections {
    /// Those that were there already.
    pub(super) duplicates: u64,
    /// Those of them whose content is not that of the row that is there.
    pub(super) differing: u64,
    /// Those that PostgreSQL refused.
    pub(super) refused: u64,
    /// Those of days that retention has taken.
    pub(super) expired: u64,
    /// Rows that a trigger suppressed or redirected.
    pub(super) suppressed: u64,
}

impl Corrections {
    /// Counts a row that is in the table already.
    pub(super) fn add(&mut self, known: Known) {
        self.duplicates += u64::from(known != Known::New);
        self.differing += u64::from(known == Known::Differing);
    }

    /// What became of the records, with these taken into account.
    pub(super) fn apply(&self, tally: Tally) -> Tally {
        Tally {
            records: tally.records,
            rows: tally.rows - self.duplicates - self.refused - self.expired - self.suppressed,
            duplicates: tally.duplicates + self.duplicates,
            duplicates_differing: tally.duplicates_differing + self.differing,
            dead_letters: tally.dead_letters + self.refused,
            expired: tally.expired + self.expired,
            suppressed: tally.suppressed + self.suppressed,
        }
    }
}

impl Moves {
    pub(super) async fn prepare(client: &Client, claim: &Claim) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            claim: claim.clone(),
            forward: client.prepare(FORWARD).await?,
            settled: client.prepare(SETTLED).await?,
            correct: client.prepare(CORRECT).await?,
        })
    }

    /// Moves the offsets of a batch's partitions, in their order. Returns the first one that is not where its writer
    /// left it.
    pub(super) async fn forward(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        owned: &BTreeMap<i32, Owned>,
    ) -> Result<Option<i32>, tokio_postgres::Error> {
        let moves = batch.parts.iter().map(|(partition, part)| self.forward_one(transaction, *partition, part, owned));
        // Sent in this order, without waiting for each answer.
        let moves: Vec<_> = moves.collect();
        Ok(try_join_all(moves).await?.into_iter().flatten().next())
    }

    async fn forward_one(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        part: &Part,
        owned: &BTreeMap<i32, Owned>,
    ) -> Result<Option<i32>, tokio_postgres::Error> {
        let Some(owned) = owned.get(&partition) else { return Ok(Some(partition)) };
        let (offset, fingerprint) = part.last.map(|last| (last.offset, last.fingerprint)).unzip();
        let rows = part.rows.count();
        let moved = transaction
            .execute(
                &self.forward,
                &[
                    &self.claim.group,
                    &self.claim.topic,
                    &partition,
                    &owned.position.next_offset,
                    &part.next_offset,
                    &offset,
                    &fingerprint,
                    &number(part.records),
                    &number(rows),
                    &number(part.records - rows),
                    &owned.position.incarnation,
                ],
            )
            .await?;
        Ok((moved != 1).then_some(partition))
    }

    /// Whether the partition's offset stands where the batch would have moved it.
    pub(super) async fn is_settled(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        batch: &Batch,
    ) -> Result<bool, tokio_postgres::Error> {
        let Some(part) = batch.parts.get(&partition) else { return Ok(false) };
        let (offset, fingerprint) = part.last.map(|last| (last.offset, last.fingerprint)).unzip();
        let Claim { group, topic } = &self.claim;
        let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[group, topic, &partition, &part.next_offset, &offset, &fingerprint];
        Ok(transaction.query_opt(&self.settled, parameters).await?.is_some())
    }

    /// Sets the counts right.
    pub(super) async fn correct(
        &self,
        transaction: &Transaction<'_>,
        corrections: &BTreeMap<i32, Corrections>,
    ) -> Result<(), tokio_postgres::Error> {
        for (partition, one) in corrections.iter().filter(|(_, one)| **one != Corrections::default()) {
            let counts = [one.duplicates, one.differing, one.refused, one.expired, one.suppressed].map(number);
            let [duplicates, differing, refused, expired, suppressed] = &counts;
            let Claim { group, topic } = &self.claim;
            let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                &[group, topic, partition, duplicates, differing, refused, expired, suppressed];
            transaction.execute(&self.correct, parameters).await?;
        }
        Ok(())
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_correction_moves_rows_to_the_count_of_its_own() {
        let read = Tally { records: 100, rows: 90, dead_letters: 10, ..Tally::default() };
        let corrections = Corrections { duplicates: 1, differing: 1, refused: 2, expired: 4, suppressed: 8 };
        let settled = corrections.apply(read);
        let expected = Tally {
            records: 100,
            rows: 75,
            duplicates: 1,
            duplicates_differing: 1,
            dead_letters: 12,
            expired: 4,
            suppressed: 8,
        };
        assert_eq!(settled, expected);
        assert_eq!(Corrections::default().apply(settled), settled);
    }

    #[test]
    fn a_batch_may_be_suppressed_as_a_whole() {
        let read = Tally { records: 3, rows: 3, ..Tally::default() };
        let settled = Corrections { suppressed: 3, ..Corrections::default() }.apply(read);
        assert_eq!(settled, Tally { records: 3, suppressed: 3, ..Tally::default() });
    }
}
