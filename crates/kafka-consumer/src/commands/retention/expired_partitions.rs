//! The table's partitions as the catalog has them.

use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};

/// A partition that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpiredPartition {
    /// Its name in the schema `staging`.
    pub(crate) name: String,
    /// What it takes on disk, with its indexes.
    pub(crate) bytes: i64,
    state: State,
}

/// How far its going has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Attached,
    /// A detachment was interrupted in its middle.
    Pending,
    Detached,
}

/// Partitions below the floor by their upper bound, and those that an earlier run has noted and not finished. A half detached
/// one comes first: PostgreSQL begins no other detachment before. No literal has a backslash, so that none depends on
/// `standard_conforming_strings`.
const DOOMED: &str = "SELECT c.relname::text, pg_total_relation_size(c.oid), i.inhdetachpending
    FROM pg_class AS c
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'staging.product_events_raw'::regclass
    WHERE c.relnamespace = 'staging'::regnamespace AND c.relkind = 'r'
      AND CASE WHEN i.inhrelid IS NULL
          THEN EXISTS (SELECT FROM pipeline.dropped_partitions AS d WHERE d.partition_name = c.relname AND d.dropped_at IS NULL)
          ELSE substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz
               <= $1::text::date::timestamp AT TIME ZONE 'UTC'
          END
    ORDER BY i.inhdetachpending DESC NULLS LAST, c.relname";

/// Partitions whose upper bound has none of the known forms: a time, the end of all times, or the default partition. They would
/// never be older than the floor.
const UNREADABLE: &str = "SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid)
    FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid
    WHERE i.inhparent = 'staging.product_events_raw'::regclass
      AND pg_get_expr(c.relpartbound, c.oid) !~ '^DEFAULT$|TO [(](''[^'']+''|MAXVALUE)[)]$'
    ORDER BY c.relname LIMIT 1";

const NOTE: &str = "INSERT INTO pipeline.dropped_partitions (partition_name) SELECT unnest($1::text[])
    ON CONFLICT (partition_name) DO UPDATE SET dropped_at = NULL";

const DROPPED: &str = "UPDATE pipeline.dropped_partitions SET dropped_at = now() WHERE partition_name = $1";

pub(crate) async fn doomed(client: &impl GenericClient, floor: &str) -> Result<Vec<ExpiredPartition>, Error> {
    let read = |row: &Row| {
        let state = match row.get::<_, Option<bool>>(2) {
            None => State::Detached,
            Some(true) => State::Pending,
            Some(false) => State::Attached,
        };
        ExpiredPartition { name: row.get(0), bytes: row.get(1), state }
    };
    Ok(client.query(DOOMED, &[&floor]).await?.iter().map(read).collect())
}

/// Returns a partition whose upper bound cannot be read, with its bounds.
pub(crate) async fn unreadable(client: &impl GenericClient) -> Result<Option<(String, String)>, Error> {
    let row = client.query_opt(UNREADABLE, &[]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

pub(crate) async fn note(transaction: &Transaction<'_>, doomed: &[ExpiredPartition]) -> Result<(), Error> {
    let names: Vec<&str> = doomed.iter().map(|one| one.name.as_str()).collect();
    transaction.execute(NOTE, &[&names]).await?;
    Ok(())
}

/// Takes it out of the table without a lock that readers or writers would wait for. Waits for those that use it now, up
/// to the session's `lock_timeout` each.
pub(crate) async fn detach(client: &Client, one: &ExpiredPartition) -> Result<(), Error> {
    let how = match one.state {
        State::Attached => "CONCURRENTLY",
        State::Pending => "FINALIZE",
        State::Detached => return Ok(()),
    };
    let sql = format!("ALTER TABLE staging.product_events_raw DETACH PARTITION staging.{} {how}", quoted(&one.name));
    client.batch_execute(&sql).await
}

pub(crate) async fn drop(client: &mut Client, one: &ExpiredPartition) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("DROP TABLE IF EXISTS staging.{}", quoted(&one.name))).await?;
    transaction.execute(DROPPED, &[&one.name]).await?;
    transaction.commit().await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
