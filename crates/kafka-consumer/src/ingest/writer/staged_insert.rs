//! Staged insert: inserts rows that may be duplicates, refused or suppressed, within savepoints.
//!
//! Duplicates and suppressed rows are counted, refused rows are returned, and all others are in the transaction.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement, Transaction};

use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::{CountCorrections, RowState};
use crate::ingest::writer::answers::Answers;
use crate::ingest::writer::copy::{bytes_of, copy, copy_statement, copy_values, insert_statement};
use crate::ingest::writer::duplicate_lookup::{Lookup, split_repeats};
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::postgres::cluster;
use crate::postgres::describe;
use crate::postgres::fault::{Phase, PhaseError, Repeats, SqlFault, lacks_sqlstate, may_be_server_state};

#[derive(Clone)]
pub(crate) struct StagedInsert {
    copy: Statement,
    /// Inserts one row, to learn the SQLSTATE that COPY into a distributed table does not report.
    insert: Statement,
    lookup: Lookup,
}

/// Limits of a staged insert.
pub(crate) struct StagedOptions<'a> {
    /// Transient errors that have repeated over attempts.
    pub(crate) repeats: &'a Repeats,
    /// Maximum number of refused rows. The search ends with the first one beyond it.
    pub(crate) max_refused: u64,
    /// Start with chunks, because a row is known to be refused.
    pub(crate) chunked: bool,
    /// Memory for refused rows, in bytes. The search ends once it is used up.
    pub(crate) budget: usize,
    /// PostgreSQL's answers.
    pub(crate) answers: &'a Answers,
}

/// Outcome of a staged insert.
#[derive(Default)]
pub(crate) struct StagedOutcome {
    /// Corrections of each partition's counts.
    pub(crate) corrections: BTreeMap<i32, CountCorrections>,
    pub(crate) refused: Vec<RefusedRow>,
    /// Memory of the refused rows, in bytes.
    bytes: usize,
    /// Number of rows that were inserted or suppressed.
    passed: usize,
    /// Number of refused rows whose error may come from the server's state.
    uncertain: usize,
    /// First of these errors.
    first_uncertain: Option<PhaseError>,
}

impl StagedOutcome {
    /// Returns true if every row met an error that the server's state may have caused. No row is to blame then.
    fn no_row_passed(&self) -> bool {
        self.uncertain > 0 && self.passed == 0
    }

    fn is_over(&self, options: &StagedOptions<'_>) -> bool {
        self.bytes >= options.budget || self.refused.len() as u64 > options.max_refused
    }
}

/// Error that no single row caused. The caller rolls the transaction back.
#[derive(Debug)]
pub(crate) enum StagedInsertError {
    /// PostgreSQL reported an error.
    Failed(PhaseError),
    /// Every row met an error that the server's state may have caused.
    NoRowPassed(Error),
}

impl From<Error> for StagedInsertError {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Number of rows per COPY during the search for refused rows, unless an error names the line.
const CHUNK_ROWS: usize = 512;

/// Number of rows that may fail with a transient error before the search gives up, if no row has passed.
const FAILURES_WITHOUT_PASS: usize = 16;

impl StagedInsert {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let is_distributed = cluster::is_distributed(client).await?;
        Ok(Self {
            copy: client.prepare(&copy_statement()).await?,
            insert: client.prepare(&insert_statement()).await?,
            lookup: Lookup::prepare(client, is_distributed).await?,
        })
    }

    pub(crate) const fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    pub(crate) const fn copy(&self) -> &Statement {
        &self.copy
    }

    /// Inserts the rows of partitions. Fails if an error was not caused by single rows.
    pub(crate) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        partitions: BTreeMap<i32, Vec<Row<'_>>>,
        options: &StagedOptions<'_>,
    ) -> Result<StagedOutcome, StagedInsertError> {
        let mut outcome = StagedOutcome::default();
        for (partition, rows) in partitions {
            let mut pending = rows;
            while !pending.is_empty() && !outcome.is_over(options) {
                let corrections = outcome.corrections.entry(partition).or_default();
                let new = self.leave_out_duplicates(transaction, &pending, corrections).await?;
                options.answers.note();
                // Repeats of an id wait until the outcome of its first row is known.
                let (first, later) = split_repeats(&new, &(0..new.len()).collect::<Vec<_>>());
                let rows = first.iter().map(|index| new[*index]).collect();
                self.insert_distinct(transaction, partition, rows, options, &mut outcome).await?;
                pending = later.iter().map(|index| new[*index]).collect();
            }
        }
        match outcome.first_uncertain.take() {
            Some(error) if outcome.no_row_passed() => Err(StagedInsertError::NoRowPassed(error.error)),
            _ => Ok(outcome),
        }
    }

    /// Counts the rows whose `event_id` is in the table, and returns the others.
    async fn leave_out_duplicates<'r>(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'r>],
        corrections: &mut CountCorrections,
    ) -> Result<Vec<Row<'r>>, Error> {
        let known = self.lookup.find(transaction, rows).await?;
        for known in &known {
            corrections.add(*known);
        }
        Ok(rows.iter().zip(known).filter(|(_, known)| *known == RowState::New).map(|(row, _)| *row).collect())
    }

    /// Inserts rows with distinct ids, chunk by chunk. A chunk that fails is shortened until the refused row is its
    /// first.
    async fn insert_distinct(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        mut rows: Vec<Row<'_>>,
        options: &StagedOptions<'_>,
        outcome: &mut StagedOutcome,
    ) -> Result<(), StagedInsertError> {
        let mut size = if options.chunked { CHUNK_ROWS } else { rows.len() };
        let mut done = 0;
        while done < rows.len() && !outcome.is_over(options) {
            let chunk = &rows[done..rows.len().min(done + size)];
            let inserted = self.insert_chunk(transaction, chunk).await;
            options.answers.note();
            let error = match inserted {
                Ok(inserted) => {
                    let suppressed = (chunk.len() as u64).saturating_sub(inserted);
                    outcome.corrections.entry(partition).or_default().suppressed += suppressed;
                    outcome.passed += chunk.len();
                    done += chunk.len();
                    size = size.saturating_mul(2).min(CHUNK_ROWS);
                    continue;
                }
                Err(error) if options.repeats.classify(&error) == SqlFault::Row => error,
                Err(error) => return Err(StagedInsertError::Failed(error)),
            };
            transaction.batch_execute("ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk").await?;
            if let Some(next_chunk_len) = next_chunk_len(chunk.len(), line_of(&error.error)) {
                size = next_chunk_len;
                continue;
            }
            size = (size / 2).max(1);
            let error = self.with_sqlstate(transaction, error, chunk[0]).await?;
            if options.repeats.classify(&error) != SqlFault::Row {
                return Err(StagedInsertError::Failed(error));
            }
            if is_unique_violation(&error) {
                // Another session may have inserted rows with these ids since the lookup.
                let corrections = outcome.corrections.entry(partition).or_default();
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
            refuse(partition, row, error, outcome)?;
        }
        Ok(())
    }

    /// Returns an error with its SQLSTATE, which COPY into a distributed table does not report. An INSERT of the row does,
    /// and is rolled back.
    async fn with_sqlstate(
        &self,
        transaction: &Transaction<'_>,
        error: PhaseError,
        row: Row<'_>,
    ) -> Result<PhaseError, Error> {
        if !lacks_sqlstate(&error.error) {
            return Ok(error);
        }
        transaction.batch_execute("SAVEPOINT chunk").await?;
        let values = copy_values(row.bytes);
        let values = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect::<Vec<_>>();
        let inserted = transaction.execute(&self.insert, &values).await;
        transaction.batch_execute("ROLLBACK TO SAVEPOINT chunk; RELEASE SAVEPOINT chunk").await?;
        Ok(inserted.err().map_or(error, |error| PhaseError { error, phase: Phase::Rows }))
    }

    /// Inserts rows within a savepoint, which remains open if they fail. Returns the number of inserted rows.
    async fn insert_chunk(&self, transaction: &Transaction<'_>, rows: &[Row<'_>]) -> Result<u64, PhaseError> {
        transaction.batch_execute("SAVEPOINT chunk").await?;
        let inserted = copy(transaction, &self.copy, bytes_of(rows)).await?;
        // Deferred constraints are checked here, while the row can still be refused.
        let checked = transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT chunk").await;
        checked.map_err(|error| PhaseError { error, phase: Phase::Rows })?;
        Ok(inserted)
    }
}

/// Adds a refused row. Fails if too many rows met a transient error and none has passed.
fn refuse(
    partition: i32,
    row: Row<'_>,
    error: PhaseError,
    outcome: &mut StagedOutcome,
) -> Result<(), StagedInsertError> {
    let sqlstate = error.error.code().map_or("", |state| state.code());
    let refused = RefusedRow::new(partition, row.offset, sqlstate, &describe(&error.error));
    outcome.bytes += refused.size();
    outcome.refused.push(refused);
    outcome.corrections.entry(partition).or_default().refused += 1;
    if may_be_server_state(&error.error) {
        outcome.uncertain += 1;
        if outcome.uncertain >= FAILURES_WITHOUT_PASS && outcome.no_row_passed() {
            return Err(StagedInsertError::NoRowPassed(error.error));
        }
        outcome.first_uncertain.get_or_insert(error);
    }
    Ok(())
}

/// Returns the number of rows to try next after a chunk failed, or `None` if its first row is the refused one. COPY
/// accepted the rows before the line in its error.
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

/// Returns the line of a COPY error, counted from 1, from the error's context: `COPY product_events_raw, line 17, …`.
/// Returns `None` if the server's messages are in another language.
fn line_of(error: &tokio_postgres::Error) -> Option<usize> {
    let context = error.as_db_error()?.where_()?;
    // The context of this COPY is the outermost one. A worker counts the lines of a shard.
    let copy = context.lines().rfind(|line| line.starts_with("COPY product_events_raw,"))?;
    let (_, rest) = copy.split_once(", line ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_cut_before_the_line_or_halved() {
        assert_eq!(next_chunk_len(10, Some(4)), Some(3));
        assert_eq!(next_chunk_len(10, Some(1)), None);
        assert_eq!(next_chunk_len(10, Some(11)), Some(5));
        assert_eq!(next_chunk_len(10, Some(0)), Some(5));
        assert_eq!(next_chunk_len(20_000, None), Some(CHUNK_ROWS));
        assert_eq!(next_chunk_len(20_000, Some(15_000)), Some(14_999));
        assert_eq!((next_chunk_len(2, None), next_chunk_len(1, None)), (Some(1), None));
    }
}
