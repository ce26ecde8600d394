//! The three servers together, for one test.

use std::thread;

use crate::defaults::BUCKET;
use crate::error::StackError;
use crate::kafka::Kafka;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::s3::{S3, S3Access};

/// A Kafka broker, a PostgreSQL server and an S3 server on free ports of 127.0.0.1 and in temporary folders.
///
/// All end when this is dropped, and also when the owning process is killed.
#[derive(Debug)]
pub struct Stack {
    /// The Kafka broker.
    pub kafka: Kafka,
    /// The PostgreSQL server. Its database `warehouse` has the roles of `db_table_scripts/roles` and no tables.
    pub postgres: Postgres,
    /// The S3 server, with an empty bucket.
    pub object_store: S3,
    /// URL of a warehouse on another server for its superuser, such as that of a cluster. `None`: `postgres` has it.
    pub warehouse: Option<String>,
}

impl Stack {
    /// Starts the three servers in parallel, in two to three seconds on an idle machine.
    pub fn ephemeral() -> Result<Self, StackError> {
        Self::around(Kafka::ephemeral)
    }

    fn around(kafka: impl Fn() -> Result<Kafka, StackError> + Sync) -> Result<Self, StackError> {
        thread::scope(|scope| {
            let kafka = scope.spawn(&kafka);
            let postgres = scope.spawn(Postgres::ephemeral);
            let object_store = scope.spawn(S3::ephemeral);
            Ok(Self {
                kafka: joined(kafka)?,
                postgres: joined(postgres)?,
                object_store: joined(object_store)?,
                warehouse: None,
            })
        })
    }

    /// Starts the three servers with the broker also reachable through a proxy.
    pub fn ephemeral_behind(proxy: &Proxy) -> Result<Self, StackError> {
        Self::around(|| Kafka::ephemeral_behind(proxy))
    }

    /// Starts the three servers with the broker behind several proxies, each of which can fail independently.
    pub fn ephemeral_behind_all(proxies: &[&Proxy]) -> Result<Self, StackError> {
        Self::around(|| Kafka::ephemeral_behind_all(proxies))
    }

    /// Returns the value of `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.kafka.bootstrap_servers()
    }

    /// Returns the URL of the warehouse for the superuser.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.warehouse.clone().unwrap_or_else(|| self.postgres.url())
    }

    /// Returns endpoint, keys, region and bucket of the S3 server.
    #[must_use]
    pub fn s3(&self) -> S3Access {
        self.object_store.access()
    }

    /// Returns the URL of a lake that spans the whole bucket: `s3://product-events-lake`.
    #[must_use]
    pub fn lake_url(&self) -> String {
        format!("s3://{BUCKET}")
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
