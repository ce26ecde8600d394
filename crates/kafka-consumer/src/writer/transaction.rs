//! The one transaction of a batch: offsets, rows, dead letters, touched hours.

use std::collections::BTreeMap;

use bytes::Bytes;
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER};
use futures_util::SinkExt;
use tokio_postgres::{Client, Statement, Transaction};

use super::breaker::{Breaker, Flood};
use super::dead_letters::DeadLetters;
use super::moves::{Corrections, Moves};
use super::partitions::Partitions;
use super::row_search::RowSearch;
use super::suspects::Suspects;
use super::{Owned, takeover};
use crate::batch::{Batch, Part, Refused};
use crate::counters::Tally;
use crate::failpoint;
use crate::offsets::Claim;
use crate::postgres::{self, Target};
use crate::source::{Reread, RereadError};

/// How the rows go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight into the table: nearly always every row is new and good.
    Direct,
    /// Through a temporary table, with a savepoint: some row is there already, or PostgreSQL refuses it. COPY's own
    /// line number may have told which one is to be suspected first: its partition, and its place among the partition's.
    Careful { suspected: Option<(i32, usize)> },
}

/// Why an attempt did not commit.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The partition's offset is not where this writer left it: another consumer has it.
    Moved(i32),
    /// PostgreSQL's error. At the commit it leaves open whether the transaction is in.
    Failed { error: tokio_postgres::Error, at_commit: bool },
    /// PostgreSQL lets nobody in, and says nothing.
    NotOpened,
    /// PostgreSQL says nothing at all; the transaction may be in.
    NoAnswer,
    /// The end was asked for, and PostgreSQL is not waited for any longer.
    Abandoned,
    /// Too many dead letters.
    Flood(Flood),
    /// A row that PostgreSQL refuses could not be read from Kafka again, to be kept as a dead letter.
    NotReread(RereadError),
}

impl From<tokio_postgres::Error> for Attempt {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed { error, at_commit: false }
    }
}

/// What a session works with, besides the server.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) target: Target,
    pub(super) claim: Claim,
    pub(super) breaker: Breaker,
    pub(super) reread: Reread,
}

/// A session with its statements prepared.
pub(super) struct Session {
    means: Means,
    client: Client,
    backend: i32,
    moves: Moves,
    copy: Statement,
    note_hours: Statement,
    suspects: Suspects,
    dead_letters: DeadLetters,
    partitions: Partitions,
    search: Option<RowSearch>,
}

pub(super) const NOTE_HOURS: &str =
    "INSERT INTO pipeline.touched_hours (hour) SELECT to_timestamp(hour) FROM unnest($1::bigint[]) AS hour";

/// All that a writer asks has an index; a plan that was made while a table was small must not scan it for ever.
const PLANS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

impl Session {
    pub(super) async fn open(means: &Means) -> Result<Self, tokio_postgres::Error> {
        let client = postgres::connect(&means.target).await?;
        client.batch_execute(PLANS).await?;
        Ok(Self {
            backend: client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0),
            moves: Moves::prepare(&client, &means.claim).await?,
            copy: client.prepare(&copy_statement()).await?,
            note_hours: client.prepare(NOTE_HOURS).await?,
            suspects: Suspects::prepare(&client).await?,
            dead_letters: DeadLetters::prepare(&client, &means.claim).await?,
            partitions: Partitions::default(),
            search: None,
            means: means.clone(),
            client,
        })
    }

    /// Brings a batch in, wholly or not at all, and says what became of each partition's records. `taken` is what it has
    /// of the accepted dead letters, over all its attempts.
    pub(super) async fn write(
        &mut self,
        batch: &Batch,
        owned: &BTreeMap<i32, Owned>,
        way: Way,
        in_doubt: bool,
        taken: &mut u64,
    ) -> Result<BTreeMap<i32, Tally>, Attempt> {
        let hours = batch.hours();
        let expired = self.partitions.ensure(&self.client, &hours).await?;
        let careful = way != Way::Direct || !expired.is_empty();
        if careful && self.search.is_none() {
            self.search = Some(RowSearch::prepare(&self.client).await?);
        }
        failpoint::pass(failpoint::AFTER_PARTITION);
        let transaction = self.client.transaction().await?;
        let moved = self.moves.forward(&transaction, batch, owned);
        if let Some(partition) = takeover::or_end_the_holder(moved, &self.means.target, self.backend).await? {
            // The transaction that was in doubt has moved it, if it stands where this batch ends.
            if in_doubt && self.moves.is_settled(&transaction, partition, batch).await? {
                return Ok(tallies(batch, &BTreeMap::new()));
            }
            return Err(Attempt::Moved(partition));
        }
        failpoint::pass(failpoint::AFTER_CAS);

        let mut corrections = BTreeMap::<i32, Corrections>::new();
        let mut refused = Vec::new();
        if let Some(search) = self.search.as_ref().filter(|_| careful) {
            let suspected = if let Way::Careful { suspected } = way { suspected } else { None };
            let found = search.bring_in(&transaction, batch, suspected, &expired, &self.means.breaker).await?;
            corrections = found.corrections;
            for one in found.refused {
                refused.push((one.partition, one.letter(&self.means.reread).await.map_err(Attempt::NotReread)?));
            }
        } else {
            copy(&transaction, &self.copy, batch.in_key_order().bytes.clone()).await?;
            for (partition, part) in &batch.parts {
                corrections.insert(*partition, self.suspects.insert(&transaction, part).await?);
            }
        }

        failpoint::pass(failpoint::AFTER_COPY);
        let letters =
            batch.parts.iter().flat_map(|(partition, part)| part.dead_letters.iter().map(|one| (*partition, one)));
        let letters: Vec<(i32, &Refused)> =
            letters.chain(refused.iter().map(|(partition, one)| (*partition, one))).collect();
        let Means { breaker, claim, .. } = &self.means;
        let places = breaker.weigh(&transaction, claim, batch.records(), &letters, taken).await?;
        self.dead_letters.insert(&transaction, owned, &letters, &places).await?;
        // Which rows were expired is not known one by one; `dead-letters replay` settles what is left out here.
        if expired.is_empty() {
            self.dead_letters.settle(&transaction, batch, owned, &letters).await?;
        }
        self.moves.correct(&transaction, &corrections).await?;
        let starts: Vec<i64> = hours.iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        if !starts.is_empty() {
            transaction.execute(&self.note_hours, &[&starts]).await?;
        }
        failpoint::pass(failpoint::BEFORE_COMMIT);
        transaction.commit().await.map_err(|error| Attempt::Failed { error, at_commit: true })?;
        failpoint::pass(failpoint::AFTER_COMMIT);
        Ok(tallies(batch, &corrections))
    }
}

/// What becomes of each partition's records: every row is new and good, but for the corrections.
fn tallies(batch: &Batch, corrections: &BTreeMap<i32, Corrections>) -> BTreeMap<i32, Tally> {
    let of_part = |(partition, part): (&i32, &Part)| {
        let rows = part.rows.count();
        let plain = Tally { records: part.records, rows, dead_letters: part.records - rows, ..Tally::default() };
        (*partition, corrections.get(partition).map_or(plain, |one| one.apply(plain)))
    };
    batch.parts.iter().map(of_part).collect()
}

/// How rows go straight into the table.
pub(super) fn copy_statement() -> String {
    format!("COPY staging.product_events_raw ({}) FROM STDIN (FORMAT binary)", *COPY_COLUMNS)
}

/// How much goes into one message: PostgreSQL takes in a message whole before it looks at the first row.
const MESSAGE: usize = 64 * 1024;

/// Sends rows as one COPY.
pub(super) async fn copy(
    transaction: &Transaction<'_>,
    statement: &Statement,
    mut rows: Bytes,
) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(statement).await?);
    sink.feed(Bytes::from_static(COPY_HEADER)).await?;
    while !rows.is_empty() {
        sink.feed(rows.split_to(rows.len().min(MESSAGE))).await?;
    }
    failpoint::pass(failpoint::DURING_COPY);
    sink.feed(Bytes::from_static(COPY_TRAILER)).await?;
    sink.as_mut().finish().await?;
    Ok(())
}
