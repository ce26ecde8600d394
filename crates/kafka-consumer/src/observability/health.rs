//! Readiness and liveness of the consumer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Duration of retries after which the consumer is not ready. A failover exceeds it, a deadlock does not.
const RETRYING: Duration = Duration::from_secs(5);
/// Maximum time between two rounds of a source that is ready. Its longest wait is ten seconds.
const SLOW: Duration = Duration::from_secs(30);
/// Maximum time between two rounds of a source that is alive. The rounds continue during an outage, so an outage does
/// not exceed it.
const STUCK: Duration = Duration::from_mins(5);

/// State that the parts of the pipeline report.
#[derive(Debug)]
pub(crate) struct Health {
    assigned: AtomicBool,
    ending: AtomicBool,
    round: Mutex<Instant>,
    retrying: Mutex<BTreeMap<usize, Outage>>,
    /// Outcome of the last attempt to create the table partition of the next day. `None` before the first one.
    next_partition: Mutex<Option<Result<(), String>>>,
}

#[derive(Clone, Debug)]
struct Outage {
    since: Instant,
    error: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            assigned: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            round: Mutex::new(Instant::now()),
            retrying: Mutex::default(),
            next_partition: Mutex::default(),
        }
    }
}

impl Health {
    /// Reports that the group has assigned partitions to this consumer, possibly none.
    pub(crate) fn assigned(&self) {
        self.assigned.store(true, Ordering::Relaxed);
    }

    /// Reports that the source begins a round.
    pub(crate) fn round(&self) {
        *lock(&self.round) = Instant::now();
    }

    /// Reports that a shutdown was requested.
    pub(crate) fn ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Reports that a writer has to retry its batch.
    pub(crate) fn retrying(&self, writer: usize, error: &str) {
        let mut retrying = lock(&self.retrying);
        let since = retrying.get(&writer).map_or_else(Instant::now, |outage| outage.since);
        retrying.insert(writer, Outage { since, error: error.to_owned() });
    }

    /// Reports that a writer's batch is committed, or that its partitions belong to another consumer.
    pub(crate) fn settled(&self, writer: usize) {
        lock(&self.retrying).remove(&writer);
    }

    /// Reports if the table partition of the next day exists, or the obstacle.
    pub(crate) fn next_partition(&self, outcome: Result<(), String>) {
        *lock(&self.next_partition) = Some(outcome);
    }

    /// Returns true if the table partition of the next day exists.
    pub(crate) fn next_partition_ready(&self) -> bool {
        matches!(*lock(&self.next_partition), Some(Ok(())))
    }

    /// Returns a reason for which the consumer will stop at midnight, although it is ready now.
    pub(crate) fn warning(&self) -> Option<String> {
        let outcome = lock(&self.next_partition).clone()?;
        outcome.err().map(|error| format!("warning: the table partition of the next day is missing: {error}"))
    }

    /// Fails with the reason if the consumer is not inserting records now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.ready_at(Instant::now())
    }

    /// Fails with the reason if the process is stuck and has to be restarted.
    pub(crate) fn live(&self) -> Result<(), String> {
        self.live_at(Instant::now())
    }

    fn ready_at(&self, now: Instant) -> Result<(), String> {
        if self.ending.load(Ordering::Relaxed) {
            return Err("shutting down".to_owned());
        }
        let longest = lock(&self.retrying).values().min_by_key(|outage| outage.since).cloned();
        if let Some(Outage { since, error }) = longest
            && now.saturating_duration_since(since) >= RETRYING
        {
            let seconds = now.saturating_duration_since(since).as_secs();
            return Err(format!("postgres has accepted no batch for {seconds} s: {error}"));
        }
        if !self.assigned.load(Ordering::Relaxed) {
            return Err("no partitions assigned by the group yet".to_owned());
        }
        self.went_round_within(SLOW, now)
    }

    fn live_at(&self, now: Instant) -> Result<(), String> {
        self.went_round_within(STUCK, now)
    }

    fn went_round_within(&self, limit: Duration, now: Instant) -> Result<(), String> {
        let since = now.saturating_duration_since(*lock(&self.round));
        if since < limit {
            return Ok(());
        }
        Err(format!("the kafka reading thread is stuck for {} s", since.as_secs()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn ready_from_the_first_assignment_until_the_end() {
        let health = Health::default();
        assert!(health.ready().unwrap_err().contains("assigned") && health.live().is_ok());
        health.assigned();
        assert_eq!(health.ready(), Ok(()));
        health.ending();
        assert!(health.ready().unwrap_err().contains("shutting down") && health.live().is_ok());
    }

    #[test]
    fn an_outage_of_postgres_is_not_ready_but_alive() {
        let health = Health::default();
        health.assigned();
        health.retrying(1, "connection refused");
        health.retrying(2, "connection refused");
        assert_eq!(health.ready_at(after(4)), Ok(()));
        assert!(health.ready_at(after(6)).unwrap_err().contains("connection refused"));
        health.settled(1);
        assert!(health.ready_at(after(6)).is_err(), "the other one still waits");
        health.settled(2);
        assert_eq!(health.ready_at(after(6)), Ok(()));
    }

    #[test]
    fn a_source_that_stands_still_is_not_ready_and_at_last_not_alive() {
        let health = Health::default();
        health.assigned();
        assert!(health.ready_at(after(29)).is_ok());
        assert!(health.ready_at(after(31)).is_err() && health.live_at(after(31)).is_ok());
        assert!(health.live_at(after(301)).is_err());
        health.round();
        assert!(health.live_at(after(299)).is_ok());
    }
}
