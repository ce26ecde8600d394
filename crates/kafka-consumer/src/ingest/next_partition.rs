//! Creates the table partition of the next UTC day ahead of its events.
//!
//! A writer also creates the table partition that a batch needs. An obstacle, such as a table under its name, would stop
//! the consumer at midnight then. Found a day ahead, it is a warning, and today's events are inserted as before.

use std::sync::Arc;
use std::time::Duration;

use retry_policy::{Delays, RetryPolicy};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error};
use tokio_util::sync::CancellationToken;

use crate::observability::health::Health;
use crate::observability::timing;
use crate::postgres::table_partitions::ensure_day;
use crate::postgres::{self, Conninfo, describe};

/// Time between two checks.
const INTERVAL: Duration = Duration::from_mins(10);
/// Delays between the attempts while they fail.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(5), Duration::from_mins(5));
/// Timeout for the attempt at the start, which delays the consumer.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for each later attempt, including its connection.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the next table partition, and reports if it is missing.
pub(crate) struct NextPartition {
    target: Conninfo,
    health: Arc<Health>,
    delays: Delays,
}

/// Outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Attempt {
    Ready,
    /// PostgreSQL reported the obstacle.
    Missing(String),
    /// No answer. The writers report an outage, so the former state remains.
    Unknown(String),
}

impl NextPartition {
    pub(crate) fn new(target: &Conninfo, health: Arc<Health>) -> Self {
        Self { target: target.named("kafka-consumer next partition"), health, delays: RETRY.delays() }
    }

    /// Makes the first attempt in an open session, within three seconds, and the others in the background until `stop`
    /// is cancelled.
    pub(crate) async fn start(mut self, client: &Client, stop: CancellationToken) {
        let attempt = attempted(timeout(START_TIMEOUT, create(client)).await.ok());
        let mut pause = self.note(attempt);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                let work = timeout(TIMEOUT, async { create(&postgres::connect(&self.target).await?).await });
                tokio::select! {
                    done = work => pause = self.note(attempted(done.ok())),
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Reports the outcome of an attempt. Returns the time until the next one.
    fn note(&mut self, attempt: Attempt) -> Duration {
        match attempt {
            Attempt::Ready => {
                self.health.next_partition(Ok(()));
                self.delays = RETRY.delays();
                return INTERVAL;
            }
            Attempt::Missing(error) => {
                tracing::warn!(error, "table partition of the next day missing");
                self.health.next_partition(Err(error));
            }
            Attempt::Unknown(error) => tracing::debug!(error, "table partition of the next day not checked"),
        }
        self.delays.next_or_maximum()
    }
}

/// Creates the table partition of the day after this one. Retention never drops it.
async fn create(client: &Client) -> Result<(), Error> {
    ensure_day(client, timing::now().days() + 1).await.map(drop)
}

/// Returns the outcome of an attempt; `None` is one that timed out.
fn attempted(result: Option<Result<(), Error>>) -> Attempt {
    match result {
        Some(Ok(())) => Attempt::Ready,
        Some(Err(error)) if error.as_db_error().is_some() => Attempt::Missing(describe(&error)),
        Some(Err(error)) => Attempt::Unknown(describe(&error)),
        None => Attempt::Unknown("no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_missing_partition_is_a_warning_until_it_is_ready() {
        let health = Arc::new(Health::new(pipeline_runtime::kafka::Connection::default()));
        health.assigned();
        let target = postgres::resolve(Some("postgres://localhost/warehouse")).unwrap();
        let mut next = NextPartition::new(&target, Arc::clone(&health));
        let delay = next.note(Attempt::Missing("a view of that name exists".to_owned()));
        assert!(delay >= Duration::from_secs(5) && delay <= Duration::from_secs(10), "{delay:?}");
        assert!(health.warning().unwrap().contains("a view of that name exists"));
        assert_eq!((health.ready(), health.next_partition_ready()), (Ok(()), false));
        for _ in 0..20 {
            assert!(next.note(Attempt::Missing("a view".to_owned())) <= Duration::from_mins(10));
        }
        assert_eq!(next.note(Attempt::Ready), INTERVAL);
        assert_eq!((health.warning(), health.next_partition_ready()), (None, true));
        // The delays start again, and an outage changes nothing.
        assert!(next.note(Attempt::Unknown("no answer".to_owned())) <= Duration::from_secs(10));
        assert_eq!((health.warning(), health.next_partition_ready()), (None, true));
    }
}
