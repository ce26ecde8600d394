//! Inserts a batch with duplicates, refused rows, or rows of days that retention has dropped. These are counted or
//! returned, and all others go in.

use std::collections::{BTreeMap, BTreeSet};

use event_model::read_copy_row;
use tokio_postgres::{Client, Statement, Transaction};

use crate::ingest::batch::closed::{Batch, PendingDeadLetter};
use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::{CountCorrections, RowState};
use crate::ingest::writer::attempt::AttemptError;
use crate::ingest::writer::copy::{bytes_of, copy, copy_statement};
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::duplicate_lookup::{Lookup, split_repeats};
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::postgres::describe;
use crate::postgres::fault::{Phase, PhaseError, Repeats, SqlFault, may_be_server_state};

/// The statements for it.
#[derive(Clone)]
pub(crate) struct StagedInsert {
    copy: Statement,
    lookup: Lookup,
}

/// Everything but the rows that an insert depends on.
pub(crate) struct InsertTerms<'a> {
    /// Days that retention has dropped, counted from 1970-01-01.
    pub(crate) expired: &'a BTreeSet<i64>,
    /// Rows that were refused before, in the order of partition and offset.
    pub(crate) refused: &'a [(i32, PendingDeadLetter)],
    /// Transient errors that have repeated.
    pub(crate) repeats: &'a Repeats,
    /// Limit of dead letters, and the most that the batch can have under it: more refused rows end the search.
    pub(crate) limiter: &'a DeadLetterLimiter,
    pub(crate) most: u64,
    /// Begin with chunks: some row is refused for sure.
    pub(crate) chunked: bool,
    /// Bytes of refusals after which the search ends; the rest of the batch is left for another one.
    pub(crate) budget: usize,
}

/// Outcome of a batch's rows.
#[derive(Default)]
pub(crate) struct StagedOutcome {
    pub(crate) corrections: BTreeMap<i32, CountCorrections>,
    pub(crate) refused: Vec<RefusedRow>,
    /// Bytes that the refusals hold.
    bytes: usize,
    /// Rows that went in or were suppressed.
    passed: usize,
    /// `PendingDeadLetter` rows whose error may be the server's state, and the first such error.
    doubtful: usize,
    doubt: Option<PhaseError>,
}

impl StagedOutcome {
    /// Without a row that passed, an error that any row may meet is not a row's.
    fn no_row_passed(&self) -> bool {
        self.doubtful > 0 && self.passed == 0
    }
}

/// Number of rows per COPY while refused rows are searched for.
const CHUNK_ROWS: usize = 512;

/// Number of single rows that fail with a transient error, and none that passes, before the search gives up.
const FAILURES_WITHOUT_PASS: usize = 16;

impl StagedInsert {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { copy: client.prepare(&copy_statement()).await?, lookup: Lookup::prepare(client).await? })
    }

    pub(crate) const fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    pub(crate) const fn copy(&self) -> &Statement {
        &self.copy
    }

    /// Inserts a batch's rows but those that were refused before. The rows that are refused now are returned, all others
    /// are in the transaction.
    pub(crate) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        terms: &InsertTerms<'_>,
    ) -> Result<StagedOutcome, AttemptError> {
        let mut found = StagedOutcome::default();
        for partition in batch.parts.keys() {
            let mut pending = unsettled_rows(batch, *partition, terms, &mut found);
            while !pending.is_empty() && found.bytes < terms.budget {
                let corrections = found.corrections.entry(*partition).or_default();
                let new = self.leave_out_duplicates(transaction, &pending, corrections).await?;
                // A copy of a row in the same batch waits until it is known what became of the first one.
                let (first, later) = split_repeats(&new, &(0..new.len()).collect::<Vec<_>>());
                let rows = first.iter().map(|index| new[*index]).collect();
                self.insert_distinct(transaction, *partition, rows, terms, &mut found).await?;
                pending = later.iter().map(|index| new[*index]).collect();
            }
        }
        match found.doubt.take() {
            Some(error) if found.no_row_passed() => Err(AttemptError::NoRowPassed(error.error)),
            _ => Ok(found),
        }
    }

    /// Counts the rows whose `event_id` is in the table. Returns the others.
    async fn leave_out_duplicates<'r>(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'r>],
        corrections: &mut CountCorrections,
    ) -> Result<Vec<Row<'r>>, AttemptError> {
        let known = self.lookup.find(transaction, rows).await?;
        for known in &known {
            corrections.add(*known);
        }
        Ok(rows.iter().zip(known).filter(|(_, known)| *known == RowState::New).map(|(row, _)| *row).collect())
    }

    /// Inserts rows with ids that differ, chunk by chunk; chunks that fail are cut until a refused row stands first.
    async fn insert_distinct(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        mut rows: Vec<Row<'_>>,
        terms: &InsertTerms<'_>,
        found: &mut StagedOutcome,
    ) -> Result<(), AttemptError> {
        let mut size = if terms.chunked { CHUNK_ROWS } else { rows.len() };
        let mut done = 0;
        while done < rows.len() && found.bytes < terms.budget {
            let chunk = &rows[done..rows.len().min(done + size)];
            let error = match self.insert_chunk(transaction, chunk).await {
                Ok(inserted) => {
                    let suppressed = (chunk.len() as u64).saturating_sub(inserted);
                    found.corrections.entry(partition).or_default().suppressed += suppressed;
                    found.passed += chunk.len();
                    done += chunk.len();
                    size = size.saturating_mul(2).min(CHUNK_ROWS);
                    continue;
                }
                Err(error) if terms.repeats.classify(&error) == SqlFault::Row => error,
                Err(error) => return Err(AttemptError::Failed(error)),
            };
            transaction.batch_execute("ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk").await?;
            if let Some(next_chunk_len) = next_chunk_len(chunk.len(), line_of(&error.error)) {
                size = next_chunk_len;
                continue;
            }
            size = (size / 2).max(1);
            if is_unique_violation(&error) {
                // Another session may have inserted rows with these ids since they were looked up.
                let corrections = found.corrections.entry(partition).or_default();
                let new = self.leave_out_duplicates(transaction, chunk, corrections).await?;
                let is_duplicate = new.first().is_none_or(|row| row.offset != chunk[0].offset);
                let len = chunk.len();
                rows.splice(done..done + len, new);
                if is_duplicate {
                    continue;
                }
            }
            let row = rows[done];
            done += 1;
            refuse(partition, row, error, terms, found)?;
        }
        Ok(())
    }

    /// Inserts rows within a savepoint of their own, which stands if they fail. Returns the number of rows that are in.
    async fn insert_chunk(&self, transaction: &Transaction<'_>, rows: &[Row<'_>]) -> Result<u64, PhaseError> {
        transaction.batch_execute("SAVEPOINT chunk").await?;
        let inserted = copy(transaction, &self.copy, bytes_of(rows)).await?;
        // Deferred constraints are checked here, where the row can still be found.
        let checked = transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT chunk").await;
        checked.map_err(|error| PhaseError { error, phase: Phase::Rows })?;
        Ok(inserted)
    }
}

/// Notes a refused row. Fails if there are more than the limit bears, or if no row passes at all.
fn refuse(
    partition: i32,
    row: Row<'_>,
    error: PhaseError,
    terms: &InsertTerms<'_>,
    found: &mut StagedOutcome,
) -> Result<(), AttemptError> {
    let reason = describe(&error.error);
    if found.refused.len() as u64 >= terms.most {
        return Err(AttemptError::DeadLetterLimitExceeded(terms.limiter.exceeded(partition, row.offset, reason)));
    }
    let sqlstate = error.error.code().map_or("", |state| state.code());
    let refused = RefusedRow::new(partition, row.offset, sqlstate, &reason);
    found.bytes += refused.size();
    found.refused.push(refused);
    found.corrections.entry(partition).or_default().refused += 1;
    if may_be_server_state(&error.error) {
        found.doubtful += 1;
        if found.doubtful >= FAILURES_WITHOUT_PASS && found.no_row_passed() {
            return Err(AttemptError::NoRowPassed(error.error));
        }
        found.doubt.get_or_insert(error);
    }
    Ok(())
}

/// Returns the rows of a part to insert. Counts the rows of dropped days and the rows that were refused before.
fn unsettled_rows<'b>(
    batch: &'b Batch,
    partition: i32,
    terms: &InsertTerms<'_>,
    found: &mut StagedOutcome,
) -> Vec<Row<'b>> {
    let corrections = found.corrections.entry(partition).or_default();
    let mut rows = Vec::new();
    for row in batch.parts.get(&partition).into_iter().flat_map(|part| part.rows.iter()) {
        let index = (partition, row.offset);
        let is_expired =
            || read_copy_row(row.bytes).is_some_and(|event| terms.expired.contains(&event.event_timestamp.days()));
        if terms.refused.binary_search_by_key(&index, |(of, one)| (*of, one.letter.offset)).is_ok() {
            corrections.refused += 1;
        } else if !terms.expired.is_empty() && is_expired() {
            corrections.expired += 1;
        } else {
            rows.push(row);
        }
    }
    rows
}

/// Returns the number of rows to try next after a chunk failed, or `None` if its first row is the refused one. COPY
/// accepted the rows before the line that it names.
fn next_chunk_len(rows: usize, line: Option<usize>) -> Option<usize> {
    match line {
        Some(line) if (1..=rows).contains(&line) => Some(line - 1).filter(|before| *before > 0),
        _ if rows <= 1 => None,
        _ => Some((rows / 2).min(CHUNK_ROWS)),
    }
}

fn is_unique_violation(error: &PhaseError) -> bool {
    error.error.code().is_some_and(|state| state.code() == "23505")
}

/// Returns the line that COPY was at, counted from 1, from an error's context: `COPY product_events_raw, line 17, …`.
/// Servers with messages in another language give none.
fn line_of(error: &tokio_postgres::Error) -> Option<usize> {
    let context = error.as_db_error()?.where_()?;
    // COPY's own line is the outermost one.
    let copy = context.lines().rfind(|line| line.starts_with("COPY "))?;
    let (_, rest) = copy.split_once(", line ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_cut_before_the_line_or_halved() {
        assert_eq!(next_chunk_len(10, Some(4)), Some(3));
        assert_eq!(next_chunk_len(10, Some(1)), None);
        assert_eq!(next_chunk_len(10, Some(11)), Some(5));
        assert_eq!(next_chunk_len(10, Some(0)), Some(5));
        assert_eq!(next_chunk_len(20_000, None), Some(CHUNK_ROWS));
        assert_eq!(next_chunk_len(20_000, Some(15_000)), Some(14_999));
        assert_eq!((next_chunk_len(2, None), next_chunk_len(1, None)), (Some(1), None));
    }
}
