//! The slow way in: rows of which some are there already go through a temporary table.

use event_model::COPY_COLUMNS;
use tokio_postgres::{Client, Statement, Transaction};

use super::transaction::copy;
use crate::batch::Rows;
use crate::offsets::Claim;

/// Statements on the session's temporary table.
pub(super) struct Staging {
    copy: Statement,
    insert: Statement,
    count_differing: Statement,
    empty: Statement,
    correct: Statement,
}

/// Rows that were there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Duplicates {
    /// All of them.
    pub(super) all: u64,
    /// Those whose content is not that of the row that is there.
    pub(super) differing: u64,
}

const CORRECT: &str = "UPDATE pipeline.consumer_offsets
    SET rows_inserted = rows_inserted - $4, duplicates = duplicates + $4, duplicates_differing = duplicates_differing + $5
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3";

impl Staging {
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let columns = COPY_COLUMNS.as_str();
        client
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS staged ON COMMIT DELETE ROWS
                 AS SELECT {columns} FROM staging.product_events_raw WITH NO DATA"
            ))
            .await?;
        // Rows that went in just now find themselves; so a staged row that finds nothing like it met another content.
        let differing = format!(
            "SELECT count(*) FROM pg_temp.staged AS new WHERE NOT EXISTS (
                 SELECT FROM staging.product_events_raw AS old
                 WHERE old.event_id = new.event_id AND old.event_timestamp = new.event_timestamp
                   AND ({}) = ({}))",
            prefixed("old"),
            prefixed("new")
        );
        Ok(Self {
            copy: client.prepare(&format!("COPY pg_temp.staged ({columns}) FROM STDIN (FORMAT binary)")).await?,
            insert: client
                .prepare(&format!(
                    "INSERT INTO staging.product_events_raw ({columns}) SELECT {columns} FROM pg_temp.staged ON CONFLICT DO NOTHING"
                ))
                .await?,
            count_differing: client.prepare(&differing).await?,
            empty: client.prepare("TRUNCATE pg_temp.staged").await?,
            correct: client.prepare(CORRECT).await?,
        })
    }

    /// To be called first in a transaction. The temporary table is too young for statistics: without this the planner
    /// might scan a whole partition for every row, instead of looking into its index.
    pub(super) async fn begin(&self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        transaction
            .batch_execute(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
            )
            .await
    }

    /// Inserts what is new of some rows and sets the counts of its offset right.
    pub(super) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        claim: &Claim,
        partition: i32,
        rows: &Rows,
    ) -> Result<Duplicates, tokio_postgres::Error> {
        if rows.count == 0 {
            return Ok(Duplicates::default());
        }
        transaction.execute(&self.empty, &[]).await?;
        copy(transaction, &self.copy, [rows]).await?;
        let inserted = transaction.execute(&self.insert, &[]).await?;
        let all = rows.count.saturating_sub(inserted);
        if all == 0 {
            return Ok(Duplicates::default());
        }
        let differing: i64 = transaction.query_one(&self.count_differing, &[]).await?.get(0);
        let count = i64::try_from(all).unwrap_or(i64::MAX);
        transaction.execute(&self.correct, &[&claim.group, &claim.topic, &partition, &count, &differing]).await?;
        Ok(Duplicates { all, differing: differing.unsigned_abs() })
    }
}

fn prefixed(table: &str) -> String {
    COPY_COLUMNS.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}
