//! The features of users and accounts, from the rows of the table.
//!
//! Whoever writes rows notes their hours in the same transaction. A refinement eats the notes, brings the rows of those
//! hours together anew in roll-ups, and computes the features of those who are in them or whom a moved window has reached
//! or left; the parts of hours at its ends come from the rows themselves. All of it is one transaction that sees one
//! snapshot: a note that it sees comes with its rows, and one that it does not see stays for the next time.

use std::time::{Duration, Instant};

use event_model::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use crate::commands::refine::statements;
use crate::postgres;

/// What a refinement is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Where the windows end, an event of this very instant included. None is the beginning of the transaction.
    pub as_of: Option<Timestamp>,
    /// Whether everything is made anew from the table, whatever is noted.
    pub all: bool,
}

/// What a refinement did.
#[derive(Clone, Debug, Serialize)]
pub struct Refined {
    /// Where the windows end, as RFC 3339.
    pub as_of: String,
    /// Hours whose rows were brought together anew.
    pub hours_remade: i64,
    /// Users whose features were computed.
    pub users: i64,
    /// Those of them whose features are others now.
    pub users_changed: u64,
    /// Accounts whose features were computed.
    pub accounts: i64,
    /// Those of them whose features are others now.
    pub accounts_changed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Why nothing was refined: the features and the notes are as they were.
#[derive(Debug, Error)]
pub enum RefineError {
    /// Another one has been at work for longer than a lock is waited for.
    #[error("another refinement has been at work for {} s; it does this one's work too", .0.as_secs())]
    Busy(Duration),
    /// The role lacks a right.
    #[error("this role may not refine ({}); a member of pipeline_writer may, and so may the owner", postgres::describe(.0))]
    Denied(Error),
    /// Another error of PostgreSQL's.
    #[error("PostgreSQL: {}", postgres::describe(.0))]
    Postgres(Error),
}

impl From<Error> for RefineError {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

/// One refinement at a time. Of the session, not of the transaction, whose snapshot has to be taken after it.
const LOCK: &str = "SELECT pg_advisory_lock(hashtextextended('event-pipeline: refine', 0))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended('event-pipeline: refine', 0))";

/// A refinement that nobody waits for any longer ends soon.
const SESSION: &str = "SET client_connection_check_interval = '5s'";

/// Brings the features up to date. Waits for another refinement as long as the session waits for a lock.
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
    // A session that is broken has lost the lock, too.
    let unlocked = client.batch_execute(UNLOCK).await;
    let refined = refined?;
    unlocked?;
    Ok(refined)
}

async fn refine_alone(client: &mut Client, request: Request, began: Instant) -> Result<Refined, Error> {
    match client.batch_execute(statements::SUMMARIZE).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            tracing::warn!(error = postgres::describe(&error), "indexes by time not brought up to date");
        }
        other => other?,
    }
    client.batch_execute(statements::WORK_TABLES).await?;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let refined = statements_in_order(&transaction, request).await?;
    transaction.commit().await?;
    Ok(Refined { seconds: began.elapsed().as_secs_f64(), ..refined })
}

async fn statements_in_order(transaction: &Transaction<'_>, request: Request) -> Result<Refined, Error> {
    let as_of = request.as_of.map(|time| time.to_string());
    transaction.execute(statements::TERMS, &[&as_of, &request.all]).await?;
    for sql in statements::HOURS {
        transaction.execute(sql, &[]).await?;
    }
    let users_changed = transaction.execute(statements::USER_FEATURES, &[]).await?;
    let accounts_changed = transaction.execute(statements::ACCOUNT_FEATURES, &[]).await?;
    let counts = [users_changed, accounts_changed].map(u64::cast_signed);
    let row = transaction.query_one(statements::REFINEMENT, &[&counts[0], &counts[1]]).await?;
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
