//! A stopped owner must not hold a partition for ever: whoever has it now ends the session that still locks its offset.

use std::time::Duration;

use tokio_postgres::Error;

use crate::postgres::{self, Conninfo};

/// How long a lock on an offset is waited for before its holder is looked at. An owner that is alive holds it for the
/// time of a transaction, and it was asked to let go before.
const PATIENCE: Duration = Duration::from_secs(3);

/// `pg_blocking_pids` tells who it is only while the lock is waited for. `PartitionEnds` sessions of our own programs and role only.
const HOLDERS: &str = "SELECT activity.pid, activity.application_name, activity.state,
        activity.application_name LIKE 'kafka-consumer %' AND activity.usename = current_user AS ours,
        extract(epoch FROM now() - activity.xact_start)::bigint AS seconds
    FROM pg_stat_activity AS activity WHERE activity.pid = ANY (pg_blocking_pids($1))";

/// Waits for work that takes locks, in the session of the given backend; a session of ours that holds them for longer
/// than a live one would is ended meanwhile.
pub(crate) async fn or_end_the_holder<T>(
    work: impl Future<Output = Result<T, Error>>,
    target: &Conninfo,
    backend: i32,
) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        // The work itself says what PostgreSQL has against it; this is only help.
        tokio::select! {
            done = &mut work => return done,
            ended = end_holders(target, backend) => if let Err(error) = ended {
                tracing::warn!(%error, "holder of the offset not found");
            }
        }
    }
}

async fn end_holders(target: &Conninfo, backend: i32) -> Result<(), Error> {
    let client = postgres::connect(&target.named("kafka-consumer takeover")).await?;
    for row in client.query(HOLDERS, &[&backend]).await? {
        let (pid, name, state): (i32, Option<String>, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let seconds: Option<i64> = row.get(4);
        if row.get::<_, Option<bool>>(3) == Some(true) {
            tracing::warn!(pid, name, state, seconds, "session of a stopped consumer ended");
            client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await?;
        } else {
            tracing::warn!(pid, name, state, seconds, "offset locked by a session that is not ours; waiting");
        }
    }
    Ok(())
}
