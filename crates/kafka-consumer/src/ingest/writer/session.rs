//! Transaction of a batch: offsets, rows, dead letters and touched hours.

use std::collections::{BTreeMap, BTreeSet};

use event_model::read_copy_row;
use ingest_protocol::attempts::InsertMode;
use ingest_protocol::ownership::Ownership;
use ingest_protocol::settlement::{PartEnd, settle};
use tokio_postgres::{Client, Statement, Transaction};

use crate::failpoint;
use crate::ingest::batch::closed::{Batch, Part, PendingDeadLetter};
use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::CountCorrections;
use crate::ingest::offsets::updates::OffsetUpdates;
use crate::ingest::writer::answers::Answers;
use crate::ingest::writer::attempt::AttemptError;
use crate::ingest::writer::copy::copy;
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::dead_letters::DeadLetters;
use crate::ingest::writer::staged_insert::{StagedInsert, StagedOptions, StagedOutcome};
use crate::ingest::writer::{likely_duplicates, takeover};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::observability::record_counts::RecordCounts;
use crate::postgres::fault::{Phase, PhaseError, Repeats};
use crate::postgres::table_partitions::TablePartitions;
use crate::postgres::{self, Conninfo};

/// Batch to write, with the results of earlier attempts.
pub(crate) struct WriteRequest<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) owned: &'a Ownership,
    /// Dead letters of the rows that PostgreSQL refused before, in the order of partition and offset.
    pub(crate) refused: &'a [(i32, PendingDeadLetter)],
    pub(crate) repeats: &'a Repeats,
    /// An earlier attempt may have committed.
    pub(crate) in_doubt: bool,
    /// Counts PostgreSQL's answers during the attempt.
    pub(crate) answers: &'a Answers,
}

/// Settings and services of a session.
#[derive(Clone)]
pub(crate) struct SessionContext {
    pub(crate) target: Conninfo,
    pub(crate) group_topic: GroupTopic,
    pub(crate) limiter: DeadLetterLimiter,
    pub(crate) record_lookup: RecordLookup,
}

/// Prepared statements of a session.
pub(crate) struct Statements {
    moves: OffsetUpdates,
    rows: StagedInsert,
    note_hours: Statement,
    dead_letters: DeadLetters,
}

impl Statements {
    /// Prepares everything that a writer executes. Fails if a table lacks a column.
    pub(crate) async fn prepare(client: &Client, group_topic: &GroupTopic) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            moves: OffsetUpdates::prepare(client, group_topic).await?,
            rows: StagedInsert::prepare(client).await?,
            note_hours: client.prepare(NOTE_HOURS).await?,
            dead_letters: DeadLetters::prepare(client, group_topic).await?,
        })
    }
}

/// Session with prepared statements.
pub(crate) struct Session {
    context: SessionContext,
    client: Client,
    backend: i32,
    statements: Statements,
    partitions: TablePartitions,
    /// A trigger suppressed rows of the last staged batch, and will probably do so again.
    suppresses: bool,
}

/// Maximum memory of the refused rows that one attempt collects, in bytes.
const REFUSALS: usize = 4 * 1024 * 1024;

pub(crate) const NOTE_HOURS: &str =
    "INSERT INTO pipeline.touched_hours (hour) SELECT to_timestamp(hour) FROM unnest($1::bigint[]) AS hour";

/// Forces index scans. Every query of a writer has an index, but a plan cached while a table was small would keep
/// scanning the whole table.
const PLANS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

impl Session {
    pub(crate) async fn open(context: &SessionContext) -> Result<Self, tokio_postgres::Error> {
        let client = postgres::connect(&context.target).await?;
        client.batch_execute(PLANS).await?;
        Ok(Self {
            backend: client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0),
            statements: Statements::prepare(&client, &context.group_topic).await?,
            partitions: TablePartitions::default(),
            suppresses: false,
            context: context.clone(),
            client,
        })
    }

    /// Writes a batch in one transaction. Returns each partition's counts. `taken` is the share of the dead-letter
    /// allowance that the batch has taken over all its attempts.
    ///
    /// The offsets move first: their row locks keep other consumers of the partitions from committing until this
    /// transaction ends.
    pub(crate) async fn write(
        &mut self,
        task: &WriteRequest<'_>,
        mode: InsertMode,
        taken: &mut u64,
    ) -> Result<BTreeMap<i32, RecordCounts>, AttemptError> {
        let WriteRequest { batch, owned, .. } = *task;
        let hours = batch.hours();
        let expired = self.partitions.ensure(&self.client, &hours).await?;
        failpoint::pass(failpoint::AFTER_PARTITION);
        let transaction = self.client.transaction().await?;
        let Statements { moves, rows: staged, note_hours, dead_letters } = &mut self.statements;
        let moved = moves.forward(&transaction, batch, owned);
        let conflicts = takeover::or_end_the_holder(moved, &self.context.target, self.backend).await?;
        if !conflicts.is_empty() {
            let stored = if task.in_doubt { moves.stored(&transaction, &conflicts).await? } else { BTreeMap::new() };
            return Err(AttemptError::Conflict(settle(task.in_doubt, &ends(batch, owned), &conflicts, &stored)));
        }
        failpoint::pass(failpoint::AFTER_CAS);

        let careful = mode != InsertMode::Copy || !expired.is_empty() || !task.refused.is_empty() || self.suppresses;
        let corrections = if careful {
            let options = StagedOptions {
                repeats: task.repeats,
                max_refused: self.context.limiter.maximum(batch.records()),
                chunked: mode == InsertMode::Staged { chunked: true },
                budget: REFUSALS,
                answers: task.answers,
            };
            let (rows, known) = unsettled_rows(batch, &expired, task.refused);
            let outcome = staged.insert(&transaction, rows, &options).await?;
            let StagedOutcome { mut corrections, refused, .. } = outcome;
            if let (Some(last), true) = (refused.last(), refused.len() as u64 > options.max_refused) {
                let exceeded = self.context.limiter.exceeded(last.partition, last.offset, last.reason.clone());
                return Err(AttemptError::DeadLetterLimitExceeded(exceeded));
            }
            for (partition, one) in known {
                *corrections.entry(partition).or_default() += one;
            }
            if !refused.is_empty() {
                transaction.rollback().await?;
                return Err(AttemptError::Refused(refused));
            }
            self.suppresses = corrections.values().any(|one| one.suppressed > 0);
            corrections
        } else {
            insert_directly(&transaction, staged, batch).await?
        };

        failpoint::pass(failpoint::AFTER_COPY);
        let letters =
            batch.parts.iter().flat_map(|(partition, part)| part.dead_letters.iter().map(|one| (*partition, one)));
        // A partition may have been lost since its refused rows were found.
        let is_in = |(partition, _): &(i32, &PendingDeadLetter)| batch.parts.contains_key(partition);
        let letters: Vec<(i32, &PendingDeadLetter)> =
            letters.chain(task.refused.iter().map(|(of, one)| (*of, one)).filter(is_in)).collect();
        let SessionContext { limiter, group_topic, .. } = &self.context;
        let positions = limiter.check(&transaction, group_topic, batch.records(), &letters, taken).await?;
        dead_letters.insert(&transaction, owned, &letters, &positions).await?;
        // Expired and suppressed rows are only counted. `dead-letters replay` settles the dead letters that are skipped
        // here.
        if corrections.values().all(|one| one.expired == 0 && one.suppressed == 0) {
            dead_letters.settle(&transaction, batch, owned, &letters).await?;
        }
        moves.correct(&transaction, &corrections).await?;
        let starts: Vec<i64> = hours.iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        if !starts.is_empty() {
            transaction.execute(&*note_hours, &[&starts]).await?;
        }
        failpoint::pass(failpoint::BEFORE_COMMIT);
        transaction.commit().await.map_err(|error| PhaseError { error, phase: Phase::Commit })?;
        moves.committed();
        failpoint::pass(failpoint::AFTER_COMMIT);
        Ok(counts(batch, &corrections))
    }
}

/// Returns what the transaction of a batch stores for each partition.
fn ends(batch: &Batch, owned: &Ownership) -> BTreeMap<i32, PartEnd> {
    let end = |(partition, part): (&i32, &Part)| {
        let incarnation = owned.get(*partition)?.position.incarnation;
        Some((*partition, PartEnd { next_offset: part.next_offset, incarnation, last: part.last }))
    };
    batch.parts.iter().filter_map(end).collect()
}

/// Returns the rows of each partition that are still to be inserted, and corrections for the others: rows of dropped
/// days, and rows that PostgreSQL refused before.
fn unsettled_rows<'b>(
    batch: &'b Batch,
    expired: &BTreeSet<i64>,
    refused: &[(i32, PendingDeadLetter)],
) -> (BTreeMap<i32, Vec<Row<'b>>>, BTreeMap<i32, CountCorrections>) {
    let (mut rows, mut known) = (BTreeMap::new(), BTreeMap::<i32, CountCorrections>::new());
    for (partition, part) in &batch.parts {
        let corrections = known.entry(*partition).or_default();
        let is_refused = |row: &Row<'_>| {
            let index = (*partition, row.offset);
            refused.binary_search_by_key(&index, |(of, one)| (*of, one.letter.offset)).is_ok()
        };
        let is_expired = |row: &Row<'_>| {
            !expired.is_empty()
                && read_copy_row(row.bytes).is_some_and(|event| expired.contains(&event.event_timestamp.days()))
        };
        let unsettled: &mut Vec<Row<'b>> = rows.entry(*partition).or_default();
        for row in part.rows.iter() {
            if is_refused(&row) {
                corrections.refused += 1;
            } else if is_expired(&row) {
                corrections.expired += 1;
            } else {
                unsettled.push(row);
            }
        }
    }
    (rows, known)
}

/// Inserts all rows with one COPY, then handles the likely duplicates. Succeeds only if all other rows are new and
/// valid.
async fn insert_directly(
    transaction: &Transaction<'_>,
    statements: &StagedInsert,
    batch: &Batch,
) -> Result<BTreeMap<i32, CountCorrections>, AttemptError> {
    let rows = batch.sorted_rows();
    // COPY's count excludes rows that a trigger suppressed.
    if copy(transaction, statements.copy(), rows.bytes.clone()).await? < rows.count() {
        return Err(AttemptError::Suppressed);
    }
    likely_duplicates::insert(transaction, statements.copy(), statements.lookup(), batch).await
}

/// Returns each partition's counts: all rows count as inserted, less the corrections.
pub(super) fn counts(batch: &Batch, corrections: &BTreeMap<i32, CountCorrections>) -> BTreeMap<i32, RecordCounts> {
    let of_part = |(partition, part): (&i32, &Part)| {
        let rows = part.rows.count();
        let plain =
            RecordCounts { records: part.records, rows, dead_letters: part.records - rows, ..RecordCounts::default() };
        (*partition, corrections.get(partition).map_or(plain, |one| one.apply(plain)))
    };
    batch.parts.iter().map(of_part).collect()
}
