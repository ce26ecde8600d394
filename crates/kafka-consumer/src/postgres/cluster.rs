//! A table that Citus distributes over workers: its transactions commit on the coordinator first, then on the workers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio_postgres::{Error, GenericClient};

use crate::postgres::describe;

/// Returns true if the table of the events is distributed.
pub(crate) async fn is_distributed(client: &impl GenericClient) -> Result<bool, Error> {
    client.query_one("SELECT pipeline.is_distributed()", &[]).await?.try_get(0)
}

/// Selects the begin of the oldest transaction. Sessions of other roles hide theirs; one that may write rows counts as ten
/// minutes old, which is longer than a transaction of a consumer takes.
const OLDEST_WRITER: &str = "SELECT least(now(), min(CASE WHEN query = '<insufficient privilege>'
            THEN now() - interval '10 minutes' ELSE xact_start END))
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name !~ '^(citus_internal|Citus )'
      AND has_table_privilege(usename, 'staging.product_events_raw', 'INSERT')";

/// Returns the time before which all transactions have begun that have ended by now.
pub(crate) async fn oldest_writer(client: &impl GenericClient) -> Result<SystemTime, Error> {
    client.query_one(OLDEST_WRITER, &[]).await?.try_get(0)
}

/// Errors of [`await_workers`].
#[derive(Debug, Error)]
pub(crate) enum ClusterError {
    #[error("worker {worker} does not answer: {cause}; check it with 'kafka-consumer doctor'")]
    Unreachable { worker: String, cause: String },
    /// The coordinator has not resolved a prepared transaction in time.
    #[error(
        "transaction {transaction} is still prepared after {} s, so its rows are not visible; Citus commits it once \
         the coordinator reaches the worker (citus.recover_2pc_interval)",
        .after.as_secs()
    )]
    InDoubt {
        /// Worker and ID of the transaction, such as `worker-1:5432/citus_0_4711_3_1`.
        transaction: String,
        after: Duration,
    },
    #[error("{}", describe(.0))]
    Postgres(#[from] Error),
}

/// Selects the transactions that Citus has prepared on each worker and not committed yet.
const PREPARED: &str = "SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers(
        'SELECT coalesce(string_agg(gid, '' ''), '''') FROM pg_prepared_xacts
         WHERE database = current_database() AND starts_with(gid, ''citus_'')')";

const POLL: Duration = Duration::from_millis(50);

/// Time after which a prepared transaction counts as in doubt. Citus looks for such transactions every minute by default.
const LIMIT: Duration = Duration::from_secs(90);

/// Waits until the rows of all transactions that have committed so far are visible on the workers.
///
/// A transaction is prepared on all workers when the coordinator commits it. So the wait ends once the transactions
/// that are prepared now have ended.
pub(crate) async fn await_workers(client: &impl GenericClient) -> Result<(), ClusterError> {
    let began = Instant::now();
    let mut pending = prepared(client).await?;
    while let Some(transaction) = pending.first() {
        if began.elapsed() >= LIMIT {
            return Err(ClusterError::InDoubt { transaction: transaction.clone(), after: LIMIT });
        }
        tokio::time::sleep(POLL).await;
        let now = prepared(client).await?;
        pending.retain(|transaction| now.contains(transaction));
    }
    Ok(())
}

async fn prepared(client: &impl GenericClient) -> Result<BTreeSet<String>, ClusterError> {
    let mut all = BTreeSet::new();
    for row in client.query(PREPARED, &[]).await? {
        let (worker, result): (String, String) = (row.try_get(0)?, row.try_get(2)?);
        if !row.try_get::<_, bool>(1)? {
            return Err(ClusterError::Unreachable { worker, cause: result });
        }
        all.extend(result.split_ascii_whitespace().map(|gid| format!("{worker}/{gid}")));
    }
    Ok(all)
}
