//! Computes the features of users and accounts from the rows of the table.
//!
//! Every transaction that writes rows notes their hours. A refinement deletes the notes and aggregates the rows of
//! those hours again. It then computes the features of the users and accounts in these hours, and in the hours that a
//! window has entered or left since the last refinement. The partial hours at both ends of a window are read from the
//! rows directly.
//!
//! All of this is one transaction with one snapshot. A note that the snapshot contains comes with its rows; a later
//! note stays for the next refinement. The workers of a distributed table show the rows of a note only after the
//! coordinator shows the note, so the refinement waits for them before it reads the rows.

use std::time::{Duration, Instant, SystemTime};

use event_model::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use crate::commands::refine::statements;
use crate::postgres::{self, cluster};

/// Scope of a refinement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// End of the windows, inclusive. `None` is the start of the transaction.
    pub as_of: Option<Timestamp>,
    /// Recomputes everything from the table, including hours without a note.
    pub all: bool,
}

/// Outcome of a refinement.
#[derive(Clone, Debug, Serialize)]
pub struct Refined {
    /// End of the windows, in RFC 3339 format.
    pub as_of: String,
    /// Number of hours whose rows were aggregated again.
    pub hours_remade: i64,
    /// Number of users whose features were computed.
    pub users: i64,
    /// Number of users whose features changed.
    pub users_changed: u64,
    /// Number of accounts whose features were computed.
    pub accounts: i64,
    /// Number of accounts whose features changed.
    pub accounts_changed: u64,
    /// Duration in seconds.
    pub seconds: f64,
}

/// Errors of [`refine`]. The features and the notes are unchanged.
#[derive(Debug, Error)]
pub enum RefineError {
    /// Another refinement held the lock for longer than `lock_timeout`.
    #[error("cannot refine: another refinement has been running for over {} s; wait for it to finish", .0.as_secs())]
    Busy(Duration),
    /// The role lacks a privilege.
    #[error("cannot refine: {}; connect as a member of pipeline_writer or as the owner", postgres::describe(.0))]
    Denied(Error),
    /// Any other PostgreSQL error.
    #[error("cannot refine: {}", postgres::describe(.0))]
    Postgres(Error),
}

impl From<Error> for RefineError {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

/// Serializes refinements. The lock belongs to the session, because the snapshot of the transaction must be taken while
/// the lock is held.
const LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('event-pipeline: refine', 0))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended('event-pipeline: refine', 0))";

/// Ends a statement within seconds after its client has disconnected.
const SESSION: &str = "SET client_connection_check_interval = '5s'";

/// Updates the features. Waits for another refinement up to the session's `lock_timeout`.
pub async fn refine(client: &mut Client, request: Request) -> Result<Refined, RefineError> {
    let began = Instant::now();
    client.batch_execute(SESSION).await?;
    client.batch_execute(LOCK).await.map_err(|error| match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => RefineError::Busy(began.elapsed()),
        _ => error.into(),
    })?;
    let refined = refine_alone(client, request, began).await.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => RefineError::Denied(error),
        _ => error.into(),
    });
    // Runs after an error too. A broken session has lost the lock anyway.
    let unlocked = client.batch_execute(UNLOCK).await;
    let refined = refined?;
    unlocked?;
    Ok(refined)
}

async fn refine_alone(client: &mut Client, request: Request, began: Instant) -> Result<Refined, Error> {
    match client.batch_execute(statements::SUMMARIZE).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            tracing::warn!(error = postgres::describe(&error), "time indexes not updated");
        }
        other => other?,
    }
    client.batch_execute(statements::WORK_TABLES).await?;
    let is_distributed = cluster::is_distributed(client).await?;
    let settled = if is_distributed { Some(cluster::oldest_writer(client).await?) } else { None };
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let refined = statements_in_order(&transaction, request, settled).await?;
    transaction.commit().await?;
    Ok(Refined { seconds: began.elapsed().as_secs_f64(), ..refined })
}

/// Executes the statements. `settled` is the begin of the oldest transaction that may write to a distributed table.
async fn statements_in_order(
    transaction: &Transaction<'_>,
    request: Request,
    settled: Option<SystemTime>,
) -> Result<Refined, Error> {
    let as_of = request.as_of.map(|time| time.to_string());
    transaction.execute(statements::TERMS, &[&as_of, &request.all]).await?;
    transaction.execute(statements::TOUCHED_HOURS, &[]).await?;
    // Each worker has its own snapshot, which it takes with the first of the next statements.
    cluster::await_workers(transaction).await?;
    for sql in statements::hours() {
        transaction.execute(&sql, &[]).await?;
    }
    let users_changed = transaction.execute(statements::USER_FEATURES, &[]).await?;
    let accounts_changed = transaction.execute(statements::ACCOUNT_FEATURES, &[]).await?;
    let counts = [users_changed, accounts_changed].map(u64::cast_signed);
    let row = transaction.query_one(statements::REFINEMENT, &[&counts[0], &counts[1], &settled]).await?;
    Ok(Refined {
        as_of: row.get(0),
        hours_remade: row.get(1),
        users: row.get(2),
        users_changed,
        accounts: row.get(3),
        accounts_changed,
        seconds: 0.0,
    })
}
