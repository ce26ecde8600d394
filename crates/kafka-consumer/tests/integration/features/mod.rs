//! Compares the features of users and accounts with a direct computation from their definition.

mod beside_writers;
mod command;
mod streams;

use crate::support::{WRITER, url_of};
use event_model::Timestamp;
use kafka_consumer::{Refined, Request, refine};
use kafka_consumer::{connect, resolve};
use local_stack::Stack;
use tokio_postgres::Client;

/// Opens a session with the program's settings and a writer's privileges.
async fn session(stack: &Stack) -> Client {
    session_of(stack, "warehouse").await
}

/// Opens such a session on another database.
async fn session_of(stack: &Stack, warehouse: &str) -> Client {
    let url = url_of(stack, WRITER).replace("/warehouse", &format!("/{warehouse}"));
    let target = resolve(Some(&url)).unwrap();
    connect(&target.named("kafka-consumer refine")).await.unwrap()
}

async fn refine_as_of(client: &mut Client, as_of: &str) -> Refined {
    let as_of: Timestamp = as_of.parse().unwrap();
    refine(client, Request { as_of: Some(as_of), all: false }).await.unwrap()
}

/// Returns the differences from the direct computation.
async fn differences(client: &Client, as_of: &str) -> Vec<String> {
    let rows = client.query(include_str!("plain.sql"), &[&as_of]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns the SQL that inserts an event and the note of its hour.
fn insert(time: &str, kind: &str, user: i32, account: i32, category: &str) -> String {
    format!(
        "INSERT INTO staging.product_events_raw VALUES
            (gen_random_uuid(), '{time}', '{kind}', {user}, {account}, 1, '{category}', 'exp_1');
         INSERT INTO pipeline.touched_hours (hour) VALUES (date_trunc('hour', timestamptz '{time}'));"
    )
}
