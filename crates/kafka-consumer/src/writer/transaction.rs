//! The one transaction of a batch: offsets, rows, dead letters, touched hours.

use std::collections::BTreeMap;

use bytes::Bytes;
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER};
use futures_util::SinkExt;
use tokio_postgres::{Client, Statement, Transaction};

use super::dead_letters::DeadLetters;
use super::partitions::Partitions;
use super::staging::Staging;
use crate::batch::{Batch, Part, Rows};
use crate::counters::Tally;
use crate::offsets::{Claim, Position};
use crate::postgres::{self, Target};

/// How the rows go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight into the table: nearly always every row is new.
    Direct,
    /// Through a temporary table: some row's `event_id` is there already.
    Staged,
}

/// Why an attempt did not commit.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The partition's offset is not where this writer left it: another consumer has it.
    Moved(i32),
    /// PostgreSQL's error. At the commit it leaves open whether the transaction is in.
    Failed { error: tokio_postgres::Error, at_commit: bool },
}

impl From<tokio_postgres::Error> for Attempt {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed { error, at_commit: false }
    }
}

/// A session with its statements prepared.
pub(super) struct Session {
    client: Client,
    claim: Claim,
    move_offset: Statement,
    settle: Statement,
    copy: Statement,
    note_hours: Statement,
    dead_letters: DeadLetters,
    partitions: Partitions,
    staging: Option<Staging>,
}

/// Compare and set: moves the offset only from where this writer left it. Every record counts as a row or a dead
/// letter here; duplicates are set right once they are known.
const MOVE_OFFSET: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = $5, fingerprint_offset = $6, fingerprint = $7, records = records + $8,
        rows_inserted = rows_inserted + $9, dead_letters = dead_letters + $10, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4";

/// Whether the offset stands where this very batch would have moved it.
const SETTLE: &str = "SELECT FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3
      AND next_offset = $4 AND fingerprint_offset = $5 AND fingerprint = $6";

const NOTE_HOURS: &str =
    "INSERT INTO pipeline.touched_hours (hour) SELECT to_timestamp(hour) FROM unnest($1::bigint[]) AS hour";

impl Session {
    pub(super) async fn open(target: &Target, claim: &Claim) -> Result<Self, tokio_postgres::Error> {
        let client = postgres::connect(target).await?;
        let copy = format!("COPY staging.product_events_raw ({}) FROM STDIN (FORMAT binary)", *COPY_COLUMNS);
        Ok(Self {
            move_offset: client.prepare(MOVE_OFFSET).await?,
            settle: client.prepare(SETTLE).await?,
            copy: client.prepare(&copy).await?,
            note_hours: client.prepare(NOTE_HOURS).await?,
            dead_letters: DeadLetters::prepare(&client).await?,
            partitions: Partitions::default(),
            staging: None,
            claim: claim.clone(),
            client,
        })
    }

    /// Brings a batch in, wholly or not at all, and says what became of its records.
    pub(super) async fn write(
        &mut self,
        batch: &Batch,
        positions: &BTreeMap<i32, Position>,
        way: Way,
        in_doubt: bool,
    ) -> Result<Tally, Attempt> {
        let hours = batch.hours();
        self.partitions.ensure(&self.client, &hours).await?;
        let staged = way == Way::Staged || batch.parts.values().any(|part| part.suspects.count > 0);
        if staged && self.staging.is_none() {
            self.staging = Some(Staging::prepare(&self.client).await?);
        }
        let transaction = self.client.transaction().await?;
        for (partition, part) in &batch.parts {
            let Some(position) = positions.get(partition) else { return Err(Attempt::Moved(*partition)) };
            if move_offset(&transaction, &self.move_offset, &self.claim, *partition, part, position.next_offset).await?
            {
                continue;
            }
            // The transaction that was in doubt has moved it, if it stands where this batch ends.
            if in_doubt && is_settled(&transaction, &self.settle, &self.claim, *partition, part).await? {
                return Ok(tally(batch));
            }
            return Err(Attempt::Moved(*partition));
        }
        let mut tally = tally(batch);
        if way == Way::Direct {
            copy(&transaction, &self.copy, batch.parts.values().map(|part| &part.rows)).await?;
        }
        if let Some(staging) = self.staging.as_ref().filter(|_| staged) {
            staging.begin(&transaction).await?;
            for (partition, part) in &batch.parts {
                let fresh = Some(&part.rows).filter(|_| way == Way::Staged);
                for rows in fresh.into_iter().chain([&part.suspects]) {
                    let duplicates = staging.insert(&transaction, &self.claim, *partition, rows).await?;
                    tally.rows -= duplicates.all;
                    tally.duplicates += duplicates.all;
                    tally.duplicates_differing += duplicates.differing;
                }
            }
        }
        for (partition, part) in &batch.parts {
            let incarnation = positions.get(partition).map_or(1, |position| position.incarnation);
            self.dead_letters.insert(&transaction, &self.claim, incarnation, *partition, &part.dead_letters).await?;
        }
        let starts: Vec<i64> = hours.iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        if !starts.is_empty() {
            transaction.execute(&self.note_hours, &[&starts]).await?;
        }
        transaction.commit().await.map_err(|error| Attempt::Failed { error, at_commit: true })?;
        Ok(tally)
    }
}

async fn move_offset(
    transaction: &Transaction<'_>,
    statement: &Statement,
    claim: &Claim,
    partition: i32,
    part: &Part,
    from: i64,
) -> Result<bool, tokio_postgres::Error> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let letters = count(part.records - part.row_count());
    let moved = transaction
        .execute(
            statement,
            &[
                &claim.group,
                &claim.topic,
                &partition,
                &from,
                &(part.last.offset + 1),
                &part.last.offset,
                &part.last.fingerprint,
                &count(part.records),
                &count(part.row_count()),
                &letters,
            ],
        )
        .await?;
    Ok(moved == 1)
}

async fn is_settled(
    transaction: &Transaction<'_>,
    statement: &Statement,
    claim: &Claim,
    partition: i32,
    part: &Part,
) -> Result<bool, tokio_postgres::Error> {
    let next = part.last.offset + 1;
    let found = transaction
        .query_opt(
            statement,
            &[&claim.group, &claim.topic, &partition, &next, &part.last.offset, &part.last.fingerprint],
        )
        .await?;
    Ok(found.is_some())
}

/// What becomes of the records if none is a duplicate.
fn tally(batch: &Batch) -> Tally {
    let rows = batch.parts.values().map(Part::row_count).sum();
    let records = batch.records();
    Tally { records, rows, dead_letters: records - rows, ..Tally::default() }
}

/// Sends rows as one COPY.
pub(super) async fn copy<'p>(
    transaction: &Transaction<'_>,
    statement: &Statement,
    all: impl IntoIterator<Item = &'p Rows>,
) -> Result<(), tokio_postgres::Error> {
    let with_rows: Vec<&Rows> = all.into_iter().filter(|rows| rows.count > 0).collect();
    if with_rows.is_empty() {
        return Ok(());
    }
    let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(statement).await?);
    sink.feed(Bytes::from_static(COPY_HEADER)).await?;
    for rows in with_rows {
        sink.feed(rows.bytes.clone()).await?;
    }
    sink.feed(Bytes::from_static(COPY_TRAILER)).await?;
    sink.as_mut().finish().await?;
    Ok(())
}
