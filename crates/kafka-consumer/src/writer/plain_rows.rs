//! Rows that do not come from Kafka just now, such as those of dead letters: the careful way in, without offsets.

use std::collections::BTreeSet;

use event_model::Hour;
use thiserror::Error;
use tokio_postgres::{Client, GenericClient, Statement, Transaction};

use super::breaker::{Breaker, Tolerance};
use super::partitions::Partitions;
use super::row_search::RowSearch;
use super::transaction::{Attempt, copy, copy_statement};
use crate::batch::Batch;
use crate::postgres::{SqlFault, classify};

/// The statements that bring them in.
pub struct PlainRows {
    search: RowSearch,
    partitions: Partitions,
    copy: Statement,
    note_hours: Statement,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroughtIn {
    /// Rows whose `event_id` was there already.
    pub duplicates: u64,
    /// Those of them whose content is not that of the row that is there.
    pub differing: u64,
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
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// An ending that only writers of Kafka's records know.
    #[error("ended as only a consumer's transaction can, which is a bug: {0}")]
    Foreign(String),
}

impl PlainRows {
    /// Prepares a session.
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let note_hours = client.prepare(super::transaction::NOTE_HOURS).await?;
        let copy = client.prepare(&copy_statement()).await?;
        Ok(Self { search: RowSearch::prepare(client).await?, partitions: Partitions::default(), copy, note_hours })
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

    /// Brings in rows that are probably all new and good, and notes their hours: straight into the table, and carefully
    /// only where PostgreSQL refuses one. Their days are none that retention has taken.
    pub async fn bring_in_new(
        &self,
        transaction: &mut Transaction<'_>,
        batch: &Batch,
    ) -> Result<BroughtIn, PlainRowsError> {
        let attempt = transaction.transaction().await?;
        match copy(&attempt, &self.copy, batch.in_key_order().bytes.clone()).await {
            Ok(()) => {
                attempt.commit().await?;
                self.note_hours(transaction, batch).await?;
                Ok(BroughtIn::default())
            }
            Err(error) if matches!(classify(&error), SqlFault::Duplicate | SqlFault::PerRow) => {
                attempt.rollback().await?;
                self.bring_in(transaction, batch).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn note_hours(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), tokio_postgres::Error> {
        let starts: Vec<i64> = batch.hours().iter().map(|hour| hour.start().micros() / 1_000_000).collect();
        transaction.execute(&self.note_hours, &[&starts]).await.map(drop)
    }

    /// Brings the rows of a batch in and notes their hours. Their days are none that retention has taken.
    pub async fn bring_in(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<BroughtIn, PlainRowsError> {
        let breaker = Breaker::new(Tolerance { most: u64::MAX, window: 1, accepted: 0 });
        let found = self.search.bring_in(transaction, batch, None, &BTreeSet::new(), &breaker).await;
        let found = found.map_err(|attempt| match attempt {
            Attempt::Failed { error, .. } => PlainRowsError::Postgres(error),
            other => PlainRowsError::Foreign(format!("{other:?}")),
        })?;
        self.note_hours(transaction, batch).await?;
        let refusal = |row: super::row_search::RefusedRow| {
            let place = usize::try_from(row.offset).unwrap_or(usize::MAX);
            Refusal { row: place, sqlstate: row.sqlstate, reason: row.reason }
        };
        let duplicates = found.corrections.values().map(|one| one.duplicates).sum();
        let differing = found.corrections.values().map(|one| one.differing).sum();
        Ok(BroughtIn { duplicates, differing, refused: found.refused.into_iter().map(refusal).collect() })
    }
}
