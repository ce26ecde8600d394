//! Inserts rows that do not come from Kafka just now, such as those of dead letters and of the lake, without offsets.

use std::collections::BTreeSet;

use event_model::Hour;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient, Statement, Transaction};

use super::breaker::{Breaker, Tolerance};
use super::lookup::Known;
use super::moves::Corrections;
use super::partitions::Partitions;
use super::refusals::RefusedRow;
use super::row_search::{RowSearch, Terms};
use super::transaction::{Attempt, copy};
use crate::batch::Batch;
use crate::postgres::{Phase, PhaseError, Repeats, SqlFault, describe};
use crate::rows::Row;

/// The statements that bring them in.
pub struct PlainRows {
    search: RowSearch,
    partitions: Partitions,
    note_hours: Statement,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroughtIn {
    /// Rows whose `event_id` was there already.
    pub duplicates: u64,
    /// Those of them whose content is not that of the row that is there.
    pub differing: u64,
    /// Rows that a trigger suppressed or redirected.
    pub suppressed: u64,
    /// What PostgreSQL refuses; all others are in.
    pub refused: Vec<Refusal>,
}

/// A row that PostgreSQL refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The offset under which it was put into its batch, as a place.
    pub row: usize,
    /// PostgreSQL's code.
    pub sqlstate: String,
    /// PostgreSQL's words.
    pub reason: String,
}

/// Why rows were not brought in, none of them.
#[derive(Debug, Error)]
pub enum PlainRowsError {
    /// No single row is to blame.
    #[error("PostgreSQL: {}", describe(&.0.error))]
    Postgres(PhaseError),
    /// An ending that only writers of Kafka's records know.
    #[error("ended as only a consumer's transaction can, which is a bug: {0}")]
    Foreign(String),
}

impl From<tokio_postgres::Error> for PlainRowsError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}

impl PlainRows {
    /// Prepares a session.
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let note_hours = client.prepare(super::transaction::NOTE_HOURS).await?;
        Ok(Self { search: RowSearch::prepare(client).await?, partitions: Partitions::default(), note_hours })
    }

    /// Makes the partitions that rows of these hours need. Returns the days, counted from 1970-01-01, that retention has
    /// taken.
    pub async fn ensure_days(
        &mut self,
        client: &impl GenericClient,
        hours: &BTreeSet<Hour>,
    ) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
        self.partitions.ensure(client, hours).await
    }

    /// Inserts rows that are probably all new and good, and notes their hours: at once, and one by one only where that
    /// fails. Their days are none that retention has dropped.
    pub async fn bring_in_new(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch,
        repeats: &Repeats,
    ) -> Result<BroughtIn, PlainRowsError> {
        let attempt = transaction.transaction().await?;
        let rows = batch.in_key_order();
        match copy(&attempt, self.search.copy(), rows.bytes.clone()).await {
            Ok(inserted) if inserted == rows.count() => {
                // Deferred constraints too, while the rows are known.
                let checked = attempt.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await;
                match checked.map_err(|error| PhaseError { error, phase: Phase::Rows }) {
                    Ok(()) => {
                        attempt.commit().await?;
                        self.note_hours(transaction, batch).await?;
                        return Ok(BroughtIn::default());
                    }
                    Err(error) => blame_rows(error, repeats)?,
                }
            }
            // A trigger suppressed some.
            Ok(_) => {}
            Err(error) => blame_rows(error, repeats)?,
        }
        attempt.rollback().await?;
        self.bring_in(transaction, batch, repeats).await
    }

    /// Returns the rows, by their places, whose `event_id` is not in the table: those that a trigger suppressed or changed.
    pub async fn missing(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
    ) -> Result<BTreeSet<usize>, tokio_postgres::Error> {
        let rows: Vec<Row<'_>> = batch.parts.values().flat_map(|part| part.rows.iter()).collect();
        let known = self.search.lookup().find(transaction, &rows).await?;
        let missing = rows.iter().zip(known).filter(|(_, known)| *known == Known::New);
        Ok(missing.map(|(row, _)| place_of(row.offset)).collect())
    }

    async fn note_hours(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), tokio_postgres::Error> {
        let starts: Vec<i64> = batch.hours().iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        transaction.execute(&self.note_hours, &[&starts]).await.map(drop)
    }

    /// Inserts the rows of a batch that are not in the table yet, and notes their hours. Their days are none that
    /// retention has dropped.
    pub async fn bring_in(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        repeats: &Repeats,
    ) -> Result<BroughtIn, PlainRowsError> {
        let breaker = Breaker::new(Tolerance { most: u64::MAX, window: 1, accepted: 0 });
        let terms = Terms {
            expired: &BTreeSet::new(),
            refused: &[],
            repeats,
            breaker: &breaker,
            most: u64::MAX,
            in_pieces: false,
            budget: usize::MAX,
        };
        let found = self.search.insert(transaction, batch, &terms).await.map_err(|attempt| match attempt {
            Attempt::Failed(error) => PlainRowsError::Postgres(error),
            Attempt::NoContrast(error) => error.into(),
            other => PlainRowsError::Foreign(format!("{other:?}")),
        })?;
        self.note_hours(transaction, batch).await?;
        let sum = |count: fn(&Corrections) -> u64| found.corrections.values().map(count).sum();
        let refusal = |row: &RefusedRow| Refusal {
            row: place_of(row.offset),
            sqlstate: row.sqlstate.clone(),
            reason: row.reason.clone(),
        };
        Ok(BroughtIn {
            duplicates: sum(|one| one.duplicates),
            differing: sum(|one| one.differing),
            suppressed: sum(|one| one.suppressed),
            refused: found.refused.iter().map(refusal).collect(),
        })
    }
}

/// Fails unless single rows caused the error.
fn blame_rows(error: PhaseError, repeats: &Repeats) -> Result<(), PlainRowsError> {
    if repeats.classify(&error) == SqlFault::Row { Ok(()) } else { Err(PlainRowsError::Postgres(error)) }
}

fn place_of(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
