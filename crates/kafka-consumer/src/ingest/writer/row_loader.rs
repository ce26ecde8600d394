//! Inserts rows that do not come from Kafka just now, such as those of dead letters and of the lake, without offsets.

use std::collections::BTreeSet;

use event_model::Hour;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient, Statement, Transaction};

use crate::ingest::batch::closed::Batch;
use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::{CountCorrections, RowState};
use crate::ingest::writer::attempt::AttemptError;
use crate::ingest::writer::copy::copy;
use crate::ingest::writer::dead_letter_limit::DeadLetterLimit;
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::ingest::writer::staged_insert::{InsertTerms, StagedInsert};
use crate::postgres::describe;
use crate::postgres::fault::{Phase, PhaseError, Repeats, SqlFault};
use crate::postgres::table_partitions::TablePartitions;

/// The statements that bring them in.
pub(crate) struct RowLoader {
    search: StagedInsert,
    partitions: TablePartitions,
    note_hours: Statement,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadOutcome {
    /// Rows whose `event_id` was there already.
    pub(crate) duplicates: u64,
    /// Those of them whose content is not that of the row that is there.
    pub(crate) differing: u64,
    /// Rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
    /// What PostgreSQL refuses; all others are in.
    pub(crate) refused: Vec<Refusal>,
}

/// A row that PostgreSQL refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The offset under which it was put into its batch, as a place.
    pub(crate) row: usize,
    /// PostgreSQL's code.
    pub(crate) sqlstate: String,
    /// PostgreSQL's words.
    pub(crate) reason: String,
}

/// Why rows were not brought in, none of them.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// No single row is to blame.
    #[error("PostgreSQL: {}", describe(&.0.error))]
    Postgres(PhaseError),
    /// An ending that only writers of Kafka's records know.
    #[error("ended as only a consumer's transaction can, which is a bug: {0}")]
    Foreign(String),
}

impl From<tokio_postgres::Error> for LoadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.into())
    }
}

impl RowLoader {
    /// Prepares a session.
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let note_hours = client.prepare(crate::ingest::writer::session::NOTE_HOURS).await?;
        Ok(Self { search: StagedInsert::prepare(client).await?, partitions: TablePartitions::default(), note_hours })
    }

    /// Makes the partitions that rows of these hours need. Returns the days, counted from 1970-01-01, that retention has
    /// taken.
    pub(crate) async fn ensure_days(
        &mut self,
        client: &impl GenericClient,
        hours: &BTreeSet<Hour>,
    ) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
        self.partitions.ensure(client, hours).await
    }

    /// Inserts rows that are probably all new and good, and notes their hours: at once, and one by one only where that
    /// fails. Their days are none that retention has dropped.
    pub(crate) async fn bring_in_new(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch,
        repeats: &Repeats,
    ) -> Result<LoadOutcome, LoadError> {
        let attempt = transaction.transaction().await?;
        let rows = batch.sorted_rows();
        match copy(&attempt, self.search.copy(), rows.bytes.clone()).await {
            Ok(inserted) if inserted == rows.count() => {
                // Deferred constraints too, while the rows are known.
                let checked = attempt.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await;
                match checked.map_err(|error| PhaseError { error, phase: Phase::Rows }) {
                    Ok(()) => {
                        attempt.commit().await?;
                        self.note_hours(transaction, batch).await?;
                        return Ok(LoadOutcome::default());
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
    pub(crate) async fn missing(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
    ) -> Result<BTreeSet<usize>, tokio_postgres::Error> {
        let rows: Vec<Row<'_>> = batch.parts.values().flat_map(|part| part.rows.iter()).collect();
        let known = self.search.lookup().find(transaction, &rows).await?;
        let missing = rows.iter().zip(known).filter(|(_, known)| *known == RowState::New);
        Ok(missing.map(|(row, _)| place_of(row.offset)).collect())
    }

    async fn note_hours(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), tokio_postgres::Error> {
        let starts: Vec<i64> = batch.hours().iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        transaction.execute(&self.note_hours, &[&starts]).await.map(drop)
    }

    /// Inserts the rows of a batch that are not in the table yet, and notes their hours. Their days are none that
    /// retention has dropped.
    pub(crate) async fn bring_in(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        repeats: &Repeats,
    ) -> Result<LoadOutcome, LoadError> {
        let limiter = DeadLetterLimiter::new(DeadLetterLimit { maximum: u64::MAX, window: 1, allowance: 0 });
        let terms = InsertTerms {
            expired: &BTreeSet::new(),
            refused: &[],
            repeats,
            limiter: &limiter,
            most: u64::MAX,
            chunked: false,
            budget: usize::MAX,
        };
        let found = self.search.insert(transaction, batch, &terms).await.map_err(|attempt| match attempt {
            AttemptError::Failed(error) => LoadError::Postgres(error),
            AttemptError::NoRowPassed(error) => error.into(),
            other => LoadError::Foreign(format!("{other:?}")),
        })?;
        self.note_hours(transaction, batch).await?;
        let sum = |count: fn(&CountCorrections) -> u64| found.corrections.values().map(count).sum();
        let refusal = |row: &RefusedRow| Refusal {
            row: place_of(row.offset),
            sqlstate: row.sqlstate.clone(),
            reason: row.reason.clone(),
        };
        Ok(LoadOutcome {
            duplicates: sum(|one| one.duplicates),
            differing: sum(|one| one.differing),
            suppressed: sum(|one| one.suppressed),
            refused: found.refused.iter().map(refusal).collect(),
        })
    }
}

/// Fails unless single rows caused the error.
fn blame_rows(error: PhaseError, repeats: &Repeats) -> Result<(), LoadError> {
    if repeats.classify(&error) == SqlFault::Row { Ok(()) } else { Err(LoadError::Postgres(error)) }
}

fn place_of(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
