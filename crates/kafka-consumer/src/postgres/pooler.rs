//! Detects connection poolers that share server sessions between clients.
//!
//! `PgBouncer` with `pool_mode=transaction`, and similar poolers, assign a server session to a client for one
//! transaction only. Its settings, prepared statements and locks then belong to the next client, and the consumer
//! depends on all three.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Number of times that both sessions are queried. One suffices for an idle pool.
const ROUNDS: usize = 3;

/// Returns true if two concurrent sessions were served by the same server process, or one of them by two processes.
/// Neither happens if each session has its own server process.
pub(crate) async fn shares_sessions(first: &Client, second: &Client) -> Result<bool, Error> {
    let mut processes = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..ROUNDS {
        for (client, seen) in [first, second].into_iter().zip(&mut processes) {
            seen.extend(process(client).await?);
        }
    }
    let [first, second] = &processes;
    Ok(first.len() > 1 || second.len() > 1 || !first.is_disjoint(second))
}

/// Returns the server process of a session. Uses the simple query protocol, since a prepared statement would fail
/// first.
async fn process(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
