//! The three servers together, for one test.

use std::thread;

use crate::defaults::BUCKET;
use crate::error::StackError;
use crate::kafka::Kafka;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::s3::{S3, S3Access};

/// A Kafka, a PostgreSQL and an S3 of one's own, on free ports of 127.0.0.1 and in temporary folders. All end when this is
/// dropped, and also when the process that has it is killed.
#[derive(Debug)]
pub struct Stack {
    /// The broker.
    pub kafka: Kafka,
    /// The database; `warehouse` is there, with the roles of `db_table_scripts/roles` and without tables.
    pub postgres: Postgres,
    /// The object store; its bucket is there and empty.
    pub object_store: S3,
}

impl Stack {
    /// Starts all three at once. Takes two to three seconds on a quiet machine.
    pub fn ephemeral() -> Result<Self, StackError> {
        Self::around(Kafka::ephemeral)
    }

    fn around(kafka: impl Fn() -> Result<Kafka, StackError> + Sync) -> Result<Self, StackError> {
        thread::scope(|scope| {
            let kafka = scope.spawn(&kafka);
            let postgres = scope.spawn(Postgres::ephemeral);
            let object_store = scope.spawn(S3::ephemeral);
            Ok(Self { kafka: joined(kafka)?, postgres: joined(postgres)?, object_store: joined(object_store)? })
        })
    }

    /// The same with a broker that is also reached through a proxy.
    pub fn ephemeral_behind(proxy: &Proxy) -> Result<Self, StackError> {
        Self::around(|| Kafka::ephemeral_behind(proxy))
    }

    /// The same with several proxies before the broker, of which each can fail by itself.
    pub fn ephemeral_behind_all(proxies: &[&Proxy]) -> Result<Self, StackError> {
        Self::around(|| Kafka::ephemeral_behind_all(proxies))
    }

    /// For `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.kafka.bootstrap_servers()
    }

    /// The database `warehouse`, as the superuser.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.postgres.url()
    }

    /// Endpoint, keys, region and bucket of the object store.
    #[must_use]
    pub fn s3(&self) -> S3Access {
        self.object_store.access()
    }

    /// The lake that is the whole bucket: `s3://product-events-lake`.
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
