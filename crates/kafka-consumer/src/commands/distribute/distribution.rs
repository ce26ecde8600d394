//! Distribution of the table: what there is, and how it is made.

use std::fmt;

use anyhow::{Context, anyhow, bail};
use tokio_postgres::{Client, Transaction};

use crate::postgres::{self, cluster, quoted};

/// Distribution column. All events of an account are in one shard.
pub(crate) const COLUMN: &str = "account_id";

/// Distribution of the table, printed as `by account_id over 32 shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Distribution column.
    pub(crate) column: String,
    /// Number of shards of the table, and of each of its partitions.
    pub(crate) shards: i32,
}

impl Distribution {
    /// Fails unless the table is distributed as requested.
    pub(crate) fn expect(&self, shards: i32) -> anyhow::Result<()> {
        let Self { column, shards: existing } = self;
        if column != COLUMN {
            bail!(
                "cannot distribute the table by {COLUMN}: it is distributed by {column}; run SELECT \
                 undistribute_table('staging.product_events_raw'), then this command again"
            );
        }
        if *existing != shards {
            bail!(
                "cannot distribute the table over {shards} shards: it has {existing}; change them with SELECT \
                 alter_distributed_table('staging.product_events_raw', shard_count => {shards})"
            );
        }
        Ok(())
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} over {} shards", self.column, self.shards)
    }
}

/// Size of the table before its distribution.
pub(crate) struct Extent {
    /// Number of rows as estimated by PostgreSQL.
    pub(crate) rows: i64,
    pub(crate) partitions: i64,
}

const FIND: &str = "SELECT column_to_column_name(logicalrelid, partkey)::text,
        (SELECT count(*)::integer FROM pg_dist_shard AS shard WHERE shard.logicalrelid = part.logicalrelid)
    FROM pg_dist_partition AS part WHERE logicalrelid = 'staging.product_events_raw'::regclass";

/// Returns how the table is distributed, or `None` if it is not.
pub(crate) async fn find(client: &Client) -> anyhow::Result<Option<Distribution>> {
    if !cluster::is_distributed(client).await? {
        return Ok(None);
    }
    let row = client.query_one(FIND, &[]).await.context("cannot read the distribution of the table")?;
    let column: Option<String> = row.get(0);
    Ok(Some(Distribution { column: column.unwrap_or_else(|| "no column".to_owned()), shards: row.get(1) }))
}

const EXTENT: &str = "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, count(*)
    FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = 'staging.product_events_raw'::regclass";

pub(crate) async fn extent(client: &Client) -> anyhow::Result<Extent> {
    let row = client.query_one(EXTENT, &[]).await.context("cannot read the table partitions")?;
    Ok(Extent { rows: row.get(0), partitions: row.get(1) })
}

/// Distributes the table and its partitions in one transaction. Readers and writers wait for it.
pub(crate) async fn distribute(client: &mut Client, shards: i32) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let done = async {
        transaction.batch_execute(LOCK).await?;
        add_account_to_indexes(&transaction).await?;
        transaction.execute(DISTRIBUTE, &[&COLUMN, &shards]).await?;
        Ok::<_, tokio_postgres::Error>(())
    };
    done.await.map_err(|error| {
        anyhow!("cannot distribute staging.product_events_raw: {}; nothing was changed", postgres::describe(&error))
    })?;
    transaction.commit().await.context("cannot distribute staging.product_events_raw")?;
    let emptied = client.batch_execute(EMPTY_LOCAL).await;
    emptied.map_err(|error| {
        anyhow!(
            "the table is distributed, but its former rows still take space on the coordinator: {}; run \
             SELECT truncate_local_data_after_distributing_table('staging.product_events_raw')",
            postgres::describe(&error)
        )
    })
}

/// Keeps sessions from creating table partitions, and from using the table.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('event-pipeline: partitions of product_events_raw', 0));
    LOCK TABLE staging.product_events_raw IN ACCESS EXCLUSIVE MODE";

const DISTRIBUTE: &str = "SELECT create_distributed_table('staging.product_events_raw', $1,
    shard_count => $2::integer, colocate_with => 'none')";

const EMPTY_LOCAL: &str = "SELECT truncate_local_data_after_distributing_table('staging.product_events_raw')";

/// Selects the table partitions' unique indexes on `event_id` alone.
const INDEXES: &str = "SELECT c.relname::text, n.nspname::text, t.relname::text
    FROM pg_inherits AS part
    JOIN pg_index AS i ON i.indrelid = part.inhrelid
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_class AS t ON t.oid = i.indrelid
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE part.inhparent = 'staging.product_events_raw'::regclass AND i.indisunique
      AND pipeline.index_keys(i.indexrelid) = ARRAY['event_id']
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)";

/// Replaces the unique indexes on `event_id` by indexes that also contain the distribution column, which Citus requires.
/// They have the same names.
async fn add_account_to_indexes(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    for row in transaction.query(INDEXES, &[]).await? {
        let [index, schema, table] = [0, 1, 2].map(|column| quoted(row.get(column)));
        let sql = format!(
            "DROP INDEX {schema}.{index}; CREATE UNIQUE INDEX {index} ON {schema}.{table} (event_id, {COLUMN})"
        );
        transaction.batch_execute(&sql).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_distribution_is_refused_with_the_way_to_change_it() {
        let of = |column: &str, shards| Distribution { column: column.to_owned(), shards };
        assert!(of(COLUMN, 8).expect(8).is_ok());
        let shards = of(COLUMN, 8).expect(16).unwrap_err().to_string();
        assert!(shards.contains("over 16 shards: it has 8") && shards.contains("shard_count => 16"), "{shards}");
        let column = of("user_id", 8).expect(8).unwrap_err().to_string();
        assert!(column.contains("distributed by user_id") && column.contains("undistribute_table"), "{column}");
    }
}
