//! Poolers that give the same server session to one client after the other.
//!
//! `PgBouncer` with `pool_mode=transaction`, and others of its kind, hand a server session out for a transaction only. What a
//! session is set to, has prepared and has locked is then somebody else's, and the consumer rests on all three.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// How often both sessions are asked. Once is enough for a pool that is idle.
const ROUNDS: usize = 3;

/// Whether two sessions that are open at the same time were seen on one server process, or one of them on two. None
/// of that can be where a session is a process of the server.
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

/// By the simple protocol, since a prepared statement would be the first thing to fail.
async fn process(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
