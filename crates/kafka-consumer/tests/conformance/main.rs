//! Conformance of the writer and PostgreSQL with the model of `ingest-protocol`.
//!
//! Traces of the model are executed by real writers in a real PostgreSQL, and the states are compared after each step.
//! The writers run unchanged. A network between them and the server holds them before each attempt and before COMMIT,
//! and loses requests and answers. `CONFORMANCE_SEED` and `CONFORMANCE_TRACES` select other traces.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[path = "../../../ingest-protocol/tests/model/mod.rs"]
mod model;
mod network;
mod player;
mod seat;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod walk;

use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use support::records::{Record, produce};

use crate::walk::Coverage;

pub(crate) const TOPIC: &str = "product-events";
/// Product that a constraint of the table refuses.
pub(crate) const REFUSED_PRODUCT: i32 = 13;

/// Addresses of the servers.
pub(crate) struct Servers {
    pub(crate) kafka: String,
    pub(crate) postgres_port: u16,
    pub(crate) admin_url: String,
    writer_url: String,
}

impl Servers {
    fn of(stack: &Stack) -> Self {
        support::migrate(stack);
        support::execute(
            stack,
            &format!("ALTER TABLE staging.product_events_raw ADD CHECK (product_id <> {REFUSED_PRODUCT})"),
        );
        // A refused record is read again for its dead letter.
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
        let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
        let made = support::runtime().block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        made[0].as_ref().unwrap();
        produce(stack, &["0", "1", "2"].map(|value| Record::of(0, value)));
        Self {
            kafka: stack.bootstrap_servers(),
            postgres_port: stack.postgres.port(),
            admin_url: stack.database_url(),
            writer_url: support::url_of(stack, support::WRITER),
        }
    }

    /// Returns the URL of a writer's network.
    pub(crate) fn writer_url(&self, port: u16) -> String {
        self.writer_url.replace(&format!(":{}/", self.postgres_port), &format!(":{port}/")) + "?sslmode=disable"
    }
}

/// Number of traces that run at the same time.
const AT_ONCE: usize = 8;
const SEED: u64 = 7;
const TRACES: u64 = 200;
/// Number of kinds of steps in these traces. Fewer would verify less.
const KINDS: usize = 33;

#[test]
fn traces_of_the_model() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seed, traces) = (number("CONFORMANCE_SEED", SEED), number("CONFORMANCE_TRACES", TRACES));
    let stack = Stack::ephemeral().unwrap();
    let servers = Servers::of(&stack);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let walks = stream::iter(0..i32::try_from(traces).unwrap()).map(|trace| walk::walk(&servers, seed, trace));
    let coverage = runtime.block_on(walks.buffer_unordered(AT_ONCE).try_fold(Coverage::new(), async |mut all, one| {
        for (kind, count) in one {
            *all.entry(kind).or_default() += count;
        }
        Ok(all)
    }));
    let coverage = coverage.unwrap();
    let steps: usize = coverage.values().sum();
    println!("{traces} traces of seed {seed}: {steps} steps in {:.1?}", began.elapsed());
    for (kind, count) in &coverage {
        println!("{count:6} {kind}");
    }
    if (seed, traces) == (SEED, TRACES) {
        assert_eq!(coverage.len(), KINDS, "kinds of steps");
    }
}
