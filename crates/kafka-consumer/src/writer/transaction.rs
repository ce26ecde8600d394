//! The one transaction of a batch: offsets, rows, dead letters, touched hours.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER};
use futures_util::SinkExt;
use tokio_postgres::{Client, Statement, Transaction};

use super::breaker::{Breaker, Flood};
use super::dead_letters::DeadLetters;
use super::moves::{Corrections, Moves};
use super::partitions::Partitions;
use super::refusals::RefusedRow;
use super::row_search::{Found, RowSearch, Terms};
use super::{Owned, suspects, takeover};
use crate::batch::{Batch, Part, Refused};
use crate::counters::Tally;
use crate::failpoint;
use crate::offsets::Claim;
use crate::postgres::{self, Phase, PhaseError, Repeats, Target};
use crate::rows::Row;
use crate::source::Reread;

/// How the rows go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight into the table: nearly always every row is new and good.
    Direct,
    /// Within savepoints, after a lookup of the rows that are in the table already: a row is a duplicate, or is refused, or
    /// is suppressed by a trigger. In pieces if a row is refused for sure.
    Careful { in_pieces: bool },
}

/// Why an attempt did not commit.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The partition's offset is not where this writer left it: another consumer has it.
    Moved(i32),
    /// PostgreSQL's error. At the commit it may leave open whether the transaction is in.
    Failed(PhaseError),
    /// A trigger left rows out, so they have to be counted partition by partition.
    Suppressed,
    /// Rows that PostgreSQL refuses. The transaction is rolled back, so that their records are read from Kafka outside it.
    Refused(Vec<RefusedRow>),
    /// A transient error that repeats, and that every row meets.
    NoContrast(tokio_postgres::Error),
    /// PostgreSQL lets nobody in, and says nothing.
    NotOpened,
    /// PostgreSQL says nothing at all; the transaction may be in.
    NoAnswer,
    /// The end was asked for, and PostgreSQL is not waited for any longer.
    Abandoned,
    /// Too many dead letters.
    Flood(Flood),
}

impl From<tokio_postgres::Error> for Attempt {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<PhaseError> for Attempt {
    fn from(error: PhaseError) -> Self {
        Self::Failed(error)
    }
}

/// A batch to write, with everything that is known about it.
pub(super) struct Task<'a> {
    pub(super) batch: &'a Batch,
    pub(super) owned: &'a BTreeMap<i32, Owned>,
    /// Dead letters of rows that PostgreSQL refused before, in the order of partition and offset.
    pub(super) refused: &'a [(i32, Refused)],
    pub(super) repeats: &'a Repeats,
    /// An earlier attempt may be in.
    pub(super) in_doubt: bool,
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
    rows: RowSearch,
    note_hours: Statement,
    dead_letters: DeadLetters,
    partitions: Partitions,
    /// A trigger left rows of the last batch out, and probably does so with the next.
    suppresses: bool,
}

/// Maximum size of the refusals that one attempt finds, in bytes.
const REFUSALS: usize = 4 * 1024 * 1024;

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
            rows: RowSearch::prepare(&client).await?,
            note_hours: client.prepare(NOTE_HOURS).await?,
            dead_letters: DeadLetters::prepare(&client, &means.claim).await?,
            partitions: Partitions::default(),
            suppresses: false,
            means: means.clone(),
            client,
        })
    }

    /// Writes a batch in one transaction. Returns each partition's counts. `taken` counts the accepted dead letters that
    /// the batch has taken over all its attempts.
    pub(super) async fn write(
        &mut self,
        task: &Task<'_>,
        way: Way,
        taken: &mut u64,
    ) -> Result<BTreeMap<i32, Tally>, Attempt> {
        let Task { batch, owned, .. } = *task;
        let hours = batch.hours();
        let expired = self.partitions.ensure(&self.client, &hours).await?;
        failpoint::pass(failpoint::AFTER_PARTITION);
        let transaction = self.client.transaction().await?;
        let moved = self.moves.forward(&transaction, batch, owned);
        if let Some(partition) = takeover::or_end_the_holder(moved, &self.means.target, self.backend).await? {
            // The transaction that was in doubt has moved it, if it stands where this batch ends.
            if task.in_doubt && self.moves.is_settled(&transaction, partition, batch).await? {
                return Ok(tallies(batch, &BTreeMap::new()));
            }
            return Err(Attempt::Moved(partition));
        }
        failpoint::pass(failpoint::AFTER_CAS);

        let careful = way != Way::Direct || !expired.is_empty() || !task.refused.is_empty() || self.suppresses;
        let corrections = if careful {
            let terms = Terms {
                expired: &expired,
                refused: task.refused,
                repeats: task.repeats,
                breaker: &self.means.breaker,
                most: self.means.breaker.most(batch.records()),
                in_pieces: way == Way::Careful { in_pieces: true },
                budget: REFUSALS,
            };
            let Found { corrections, refused, .. } = self.rows.insert(&transaction, batch, &terms).await?;
            if !refused.is_empty() {
                transaction.rollback().await?;
                return Err(Attempt::Refused(refused));
            }
            self.suppresses = corrections.values().any(|one| one.suppressed > 0);
            corrections
        } else {
            insert_directly(&transaction, &self.rows, batch).await?
        };

        failpoint::pass(failpoint::AFTER_COPY);
        let letters =
            batch.parts.iter().flat_map(|(partition, part)| part.dead_letters.iter().map(|one| (*partition, one)));
        // A partition may have been lost since its refused rows were found.
        let is_in = |(partition, _): &(i32, &Refused)| batch.parts.contains_key(partition);
        let letters: Vec<(i32, &Refused)> =
            letters.chain(task.refused.iter().map(|(of, one)| (*of, one)).filter(is_in)).collect();
        let Means { breaker, claim, .. } = &self.means;
        let places = breaker.weigh(&transaction, claim, batch.records(), &letters, taken).await?;
        self.dead_letters.insert(&transaction, owned, &letters, &places).await?;
        // Expired and suppressed rows are only counted; `dead-letters replay` settles the letters that are left out here.
        if corrections.values().all(|one| one.expired == 0 && one.suppressed == 0) {
            self.dead_letters.settle(&transaction, batch, owned, &letters).await?;
        }
        self.moves.correct(&transaction, &corrections).await?;
        let starts: Vec<i64> = hours.iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        if !starts.is_empty() {
            transaction.execute(&self.note_hours, &[&starts]).await?;
        }
        failpoint::pass(failpoint::BEFORE_COMMIT);
        transaction.commit().await.map_err(|error| PhaseError { error, phase: Phase::Commit })?;
        failpoint::pass(failpoint::AFTER_COMMIT);
        Ok(tallies(batch, &corrections))
    }
}

/// Inserts all rows at once, which succeeds if all are new and good but those whose `event_id` was seen recently.
async fn insert_directly(
    transaction: &Transaction<'_>,
    statements: &RowSearch,
    batch: &Batch,
) -> Result<BTreeMap<i32, Corrections>, Attempt> {
    let rows = batch.in_key_order();
    // COPY counts the rows that are in the table, which a trigger may have left out.
    if copy(transaction, statements.copy(), rows.bytes.clone()).await? < rows.count() {
        return Err(Attempt::Suppressed);
    }
    suspects::insert(transaction, statements.copy(), statements.lookup(), batch).await
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

/// Sends rows as one COPY. Returns the number of rows that it put into the table.
pub(super) async fn copy(
    transaction: &Transaction<'_>,
    statement: &Statement,
    mut rows: Bytes,
) -> Result<u64, PhaseError> {
    if rows.is_empty() {
        return Ok(0);
    }
    // The server checks rights and columns before it asks for rows: such an error is of the statement.
    let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(statement).await?);
    let sending = async {
        sink.feed(Bytes::from_static(COPY_HEADER)).await?;
        while !rows.is_empty() {
            sink.feed(rows.split_to(rows.len().min(MESSAGE))).await?;
        }
        failpoint::pass(failpoint::DURING_COPY);
        sink.feed(Bytes::from_static(COPY_TRAILER)).await?;
        sink.as_mut().finish().await
    };
    sending.await.map_err(|error| PhaseError { error, phase: Phase::Rows })
}

/// Puts rows one after the other, as COPY takes them.
pub(super) fn bytes_of(rows: &[Row<'_>]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(rows.iter().map(|row| row.bytes.len()).sum());
    for row in rows {
        bytes.extend_from_slice(row.bytes);
    }
    bytes.freeze()
}
