//! Takes over the offsets of a stopped consumer: terminates the session that still locks them.

use std::time::Duration;

use tokio_postgres::Error;

use crate::postgres::{self, Conninfo};

/// Time to wait for a lock on an offset before its holder is looked up. A live owner holds the lock only for a
/// transaction, and was asked earlier to release the partition.
const WAIT: Duration = Duration::from_secs(3);

/// Sessions that block a backend. `pg_blocking_pids` reports them only while the backend waits. Only consumer sessions
/// of the same login role (`ours`) are terminated.
const HOLDERS: &str = "SELECT activity.pid, activity.application_name, activity.state,
        activity.application_name LIKE 'kafka-consumer %' AND activity.usename = session_user AS ours,
        extract(epoch FROM now() - activity.xact_start)::bigint AS seconds
    FROM pg_stat_activity AS activity WHERE activity.pid = ANY (pg_blocking_pids($1))";

/// Runs work that waits for locks in the session of the given backend. While it waits, terminates consumer sessions
/// that hold these locks for longer than a live owner would.
pub(crate) async fn or_end_the_holder<T>(
    work: impl Future<Output = Result<T, Error>>,
    target: &Conninfo,
    backend: i32,
) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(WAIT) => {}
        }
        // Errors are only logged here: the work itself reports those of its session.
        tokio::select! {
            done = &mut work => return done,
            ended = end_holders(target, backend) => if let Err(error) = ended {
                tracing::warn!(%error, "session that locks the offset not found");
            }
        }
    }
}

async fn end_holders(target: &Conninfo, backend: i32) -> Result<(), Error> {
    let client = postgres::connect(&target.named("kafka-consumer takeover")).await?;
    // A session belongs to the role that logged in. `ALTER ROLE … SET role` makes another one current, which may not
    // terminate it, and which RESET ROLE would restore.
    client.batch_execute("SET ROLE NONE").await?;
    for row in client.query(HOLDERS, &[&backend]).await? {
        let (pid, name, state): (i32, Option<String>, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let seconds: Option<i64> = row.get(4);
        if row.get::<_, Option<bool>>(3) == Some(true) {
            // Citus adds a variant for `bigint`.
            client.execute("SELECT pg_terminate_backend($1::integer)", &[&pid]).await?;
            tracing::warn!(pid, name, state, seconds, "session of a stopped consumer terminated");
        } else {
            tracing::warn!(pid, name, state, seconds, "waiting for an offset locked by another program's session");
        }
    }
    Ok(())
}
