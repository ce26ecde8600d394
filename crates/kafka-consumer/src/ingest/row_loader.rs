//! Inserts rows from sources other than the topic, such as dead letters and the lake, without offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use event_model::{Hour, ProductEvent};
use thiserror::Error;
use tokio_postgres::{Client, GenericClient, Statement, Transaction};

use crate::ingest::batch::rows::{Row, Rows};
use crate::ingest::batch::sorted_rows::SortedRows;
use crate::ingest::offsets::corrections::RowState;
use crate::ingest::writer::answers::Answers;
use crate::ingest::writer::copy::copy;
use crate::ingest::writer::session::NOTE_HOURS;
use crate::ingest::writer::staged_insert::{StagedInsert, StagedInsertError, StagedOptions};
use crate::postgres::describe;
use crate::postgres::fault::{Phase, PhaseError, Repeats, SqlFault};
use crate::postgres::table_partitions::TablePartitions;

/// Rows to load, each with a number that its source assigned.
#[derive(Debug, Default)]
pub(crate) struct LoadRows {
    rows: Rows,
    hours: BTreeSet<Hour>,
}

impl LoadRows {
    /// Adds a row. Numbers must ascend.
    pub(crate) fn add(&mut self, number: u64, event: &ProductEvent<'_>) {
        self.rows.add(number.cast_signed(), event);
        self.hours.insert(event.event_timestamp.hour());
    }

    pub(crate) fn count(&self) -> u64 {
        self.rows.count()
    }
}

/// Prepared statements that load rows.
pub(crate) struct RowLoader {
    insert: StagedInsert,
    partitions: TablePartitions,
    note_hours: Statement,
}

/// Outcome of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadOutcome {
    /// Number of rows whose `event_id` was in the table.
    pub(crate) duplicates: u64,
    /// Number of duplicates whose content differs from the row in the table.
    pub(crate) differing: u64,
    /// Number of rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
    /// Rows that PostgreSQL refused. All others are in the transaction.
    pub(crate) refused: Vec<Refusal>,
}

/// A row that PostgreSQL refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Number that the source assigned to the row.
    pub(crate) number: u64,
    /// SQLSTATE.
    pub(crate) sqlstate: String,
    /// PostgreSQL's message.
    pub(crate) reason: String,
}

/// Error that no single row caused. Nothing is loaded.
#[derive(Debug, Error)]
#[error("cannot insert rows: {}", describe(&.0.error))]
pub(crate) struct LoadError(pub(crate) PhaseError);

impl From<tokio_postgres::Error> for LoadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error.into())
    }
}

impl From<StagedInsertError> for LoadError {
    fn from(error: StagedInsertError) -> Self {
        match error {
            StagedInsertError::Failed(error) => Self(error),
            StagedInsertError::NoRowPassed(error) => error.into(),
        }
    }
}

impl RowLoader {
    /// Prepares the statements in a session.
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let note_hours = client.prepare(NOTE_HOURS).await?;
        Ok(Self { insert: StagedInsert::prepare(client).await?, partitions: TablePartitions::default(), note_hours })
    }

    /// Creates the table partitions for rows of these hours. Returns the days, counted from 1970-01-01, that retention
    /// has dropped.
    pub(crate) async fn ensure_days(
        &mut self,
        client: &impl GenericClient,
        hours: &BTreeSet<Hour>,
    ) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
        self.partitions.ensure(client, hours).await
    }

    /// Loads rows with a single COPY, on the assumption that all are new and valid. Falls back to [`load`](Self::load)
    /// if they are not. Retention must not have dropped their days.
    pub(crate) async fn load_new(
        &self,
        transaction: &mut Transaction<'_>,
        rows: &LoadRows,
        repeats: &Repeats,
    ) -> Result<LoadOutcome, LoadError> {
        let attempt = transaction.transaction().await?;
        let sorted = SortedRows::of(iter::once((&rows.rows, &[][..])));
        match copy(&attempt, self.insert.copy(), sorted.bytes.clone()).await {
            Ok(inserted) if inserted == sorted.count() => {
                // Checks deferred constraints now, while the savepoint still allows a fallback.
                let checked = attempt.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await;
                match checked.map_err(|error| PhaseError { error, phase: Phase::Rows }) {
                    Ok(()) => {
                        attempt.commit().await?;
                        self.note_hours(transaction, rows).await?;
                        return Ok(LoadOutcome::default());
                    }
                    Err(error) => unless_caused_by_rows(error, repeats)?,
                }
            }
            // A trigger suppressed some rows.
            Ok(_) => {}
            Err(error) => unless_caused_by_rows(error, repeats)?,
        }
        attempt.rollback().await?;
        self.load(transaction, rows, repeats).await
    }

    /// Loads the rows that are not in the table yet. Retention must not have dropped their days.
    pub(crate) async fn load(
        &self,
        transaction: &Transaction<'_>,
        rows: &LoadRows,
        repeats: &Repeats,
    ) -> Result<LoadOutcome, LoadError> {
        let answers = Answers::new();
        let options =
            StagedOptions { repeats, max_refused: u64::MAX, chunked: false, budget: usize::MAX, answers: &answers };
        let partitions = BTreeMap::from([(0, rows.rows.iter().collect())]);
        let outcome = self.insert.insert(transaction, partitions, &options).await?;
        self.note_hours(transaction, rows).await?;
        let corrections = outcome.corrections.into_values().next().unwrap_or_default();
        let refused = outcome.refused.into_iter();
        Ok(LoadOutcome {
            duplicates: corrections.duplicates,
            differing: corrections.differing,
            suppressed: corrections.suppressed,
            refused: refused
                .map(|row| Refusal { number: row.offset.cast_unsigned(), sqlstate: row.sqlstate, reason: row.reason })
                .collect(),
        })
    }

    /// Returns the numbers of the rows whose `event_id` is not in the table because a trigger suppressed or changed
    /// them.
    pub(crate) async fn missing(
        &self,
        transaction: &Transaction<'_>,
        rows: &LoadRows,
    ) -> Result<BTreeSet<u64>, tokio_postgres::Error> {
        let rows: Vec<Row<'_>> = rows.rows.iter().collect();
        let known = self.insert.lookup().find(transaction, &rows).await?;
        let missing = rows.iter().zip(known).filter(|(_, known)| *known == RowState::New);
        Ok(missing.map(|(row, _)| row.offset.cast_unsigned()).collect())
    }

    /// Marks the hours of the rows for the next refinement.
    async fn note_hours(&self, transaction: &Transaction<'_>, rows: &LoadRows) -> Result<(), tokio_postgres::Error> {
        let starts: Vec<i64> = rows.hours.iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        transaction.execute(&self.note_hours, &[&starts]).await.map(drop)
    }
}

/// Fails unless single rows caused the error.
fn unless_caused_by_rows(error: PhaseError, repeats: &Repeats) -> Result<(), LoadError> {
    if repeats.classify(&error) == SqlFault::Row { Ok(()) } else { Err(LoadError(error)) }
}
