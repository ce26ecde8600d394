//! Finds, detaches and drops expired table partitions.

use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};

use crate::postgres::{cluster, quoted};

/// A table partition to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpiredPartition {
    /// Name in the schema `staging`.
    pub(crate) name: String,
    /// Size on disk in bytes, indexes included.
    pub(crate) bytes: i64,
    /// Number of rows as estimated by PostgreSQL. `None` if the partition was never vacuumed or analyzed.
    pub(crate) rows: Option<i64>,
    state: State,
}

impl ExpiredPartition {
    /// Returns true if its detachment has not begun.
    pub(crate) fn is_attached(&self) -> bool {
        self.state == State::Attached
    }
}

/// Progress of the drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Attached,
    /// The detachment was interrupted.
    Pending,
    Detached,
}

/// Selects partitions whose upper bound is at or below the floor, and noted ones that an earlier run did not drop.
///
/// A partition with an interrupted detachment comes first, because PostgreSQL starts no other detachment before that
/// one is finished. No literal contains a backslash, so the statement does not depend on `standard_conforming_strings`.
///
/// `{size}` is the function that measures a table.
const DOOMED: &str = "SELECT c.relname::text, {size}(c.oid), i.inhdetachpending,
        CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END
    FROM pg_class AS c
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'staging.product_events_raw'::regclass
    WHERE c.relnamespace = 'staging'::regnamespace AND c.relkind = 'r'
      AND CASE WHEN i.inhrelid IS NULL
          THEN EXISTS (SELECT FROM pipeline.dropped_partitions AS d WHERE d.partition_name = c.relname AND d.dropped_at IS NULL)
          ELSE substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz
               <= $1::text::date::timestamp AT TIME ZONE 'UTC'
          END
    ORDER BY i.inhdetachpending DESC NULLS LAST, c.relname";

/// Selects a partition that is not the default one and whose upper bound is neither a time nor `MAXVALUE`. The
/// comparison with the floor would never select it.
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
        ExpiredPartition { name: row.get(0), bytes: row.get(1), rows: row.get(3), state }
    };
    let size =
        if cluster::is_distributed(client).await? { "citus_total_relation_size" } else { "pg_total_relation_size" };
    Ok(client.query(&DOOMED.replace("{size}", size), &[&floor]).await?.iter().map(read).collect())
}

/// Returns the name and the bounds of a partition whose upper bound cannot be read.
pub(crate) async fn unreadable(client: &impl GenericClient) -> Result<Option<(String, String)>, Error> {
    let row = client.query_opt(UNREADABLE, &[]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Returns the name of the DEFAULT partition, beside which PostgreSQL detaches no partition concurrently.
pub(crate) async fn default_partition(client: &impl GenericClient) -> Result<Option<String>, Error> {
    let sql = "SELECT partdefid::regclass::text FROM pg_partitioned_table
        WHERE partrelid = 'staging.product_events_raw'::regclass AND partdefid <> 0";
    Ok(client.query_opt(sql, &[]).await?.map(|row| row.get(0)))
}

pub(crate) async fn note(transaction: &Transaction<'_>, doomed: &[ExpiredPartition]) -> Result<(), Error> {
    let names: Vec<&str> = doomed.iter().map(|one| one.name.as_str()).collect();
    transaction.execute(NOTE, &[&names]).await?;
    Ok(())
}

/// Detaches a partition without a lock that blocks readers or writers. Waits for the transactions that use the
/// partition now, each up to the session's `lock_timeout`. A distributed table has no such detachment: readers and writers
/// of it wait for a moment.
pub(crate) async fn detach(client: &Client, one: &ExpiredPartition) -> Result<(), Error> {
    let how = match one.state {
        State::Attached if cluster::is_distributed(client).await? => "",
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
