//! A table that Citus distributes over workers: its transactions commit on the coordinator first, then on the workers.

use std::time::SystemTime;

use tokio_postgres::{Error, GenericClient, Row};

/// Returns true if the table of the events is distributed.
pub(crate) async fn is_distributed(client: &impl GenericClient) -> Result<bool, Error> {
    client.query_one("SELECT pipeline.is_distributed()", &[]).await?.try_get(0)
}

/// Returns true if the database has the extension citus. Its functions do not exist otherwise.
pub(crate) async fn has_citus(client: &impl GenericClient) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Answer of a worker to a query.
pub(crate) struct WorkerAnswer {
    /// Address, such as `worker-1:5432`.
    pub(crate) worker: String,
    /// The value as text, empty if it is NULL, or the message of the worker's error.
    pub(crate) answer: Result<String, String>,
}

/// Runs a query with a single value on each worker, as the role of the session.
pub(crate) async fn on_workers(client: &impl GenericClient, sql: &str) -> Result<Vec<WorkerAnswer>, Error> {
    let call = "SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers($1)";
    let answer = |row: &Row| {
        let (is_answer, text): (bool, Option<String>) = (row.get(1), row.get(2));
        let text = text.unwrap_or_default();
        WorkerAnswer { worker: row.get(0), answer: if is_answer { Ok(text) } else { Err(text) } }
    };
    Ok(client.query(call, &[&sql]).await?.iter().map(answer).collect())
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

/// Waits until the rows and table partitions of all transactions that have committed so far are visible on the workers of a
/// distributed table. Fails with a transient error if a worker is unavailable, or a transaction is in doubt for too long.
pub(crate) async fn await_workers(client: &impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT pipeline.await_workers()", &[]).await.map(drop)
}
