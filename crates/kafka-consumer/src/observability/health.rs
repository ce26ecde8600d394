//! Readiness and liveness of the consumer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pipeline_runtime::kafka::{Connection, ConnectionState};

/// Duration of retries after which the consumer is not ready. A failover exceeds it, a deadlock does not.
const RETRYING: Duration = Duration::from_secs(5);
/// Duration of an outage of Kafka after which the consumer is not ready, even if it still has its partitions.
const KAFKA_OUTAGE: Duration = Duration::from_secs(10);
/// Maximum time between two rounds of a source that is ready. Its longest wait is ten seconds.
const SLOW: Duration = Duration::from_secs(30);
/// Maximum time between two rounds of a source that is alive. The rounds continue during an outage, so an outage does
/// not exceed it.
const STUCK: Duration = Duration::from_mins(5);

/// Session that loads the positions of partitions, in place of the number of a writer.
pub(crate) const POSITIONS: usize = 0;

/// State that the parts of the pipeline report.
#[derive(Debug)]
pub(crate) struct Health {
    kafka: Connection,
    assigned: AtomicBool,
    lost: AtomicBool,
    ending: AtomicBool,
    waiting: Mutex<Option<String>>,
    round: Mutex<Instant>,
    retrying: Mutex<BTreeMap<usize, Outage>>,
    /// Outcome of the last attempt to create the table partition of the next day. `None` before the first one.
    next_partition: Mutex<Option<Result<(), String>>>,
}

#[derive(Clone, Debug)]
struct Outage {
    since: Instant,
    error: String,
    /// Time since which the server has refused the login.
    refused_since: Option<Instant>,
}

impl Health {
    /// Returns the health of a process that just started, with the state of its connection to Kafka.
    pub(crate) fn new(kafka: Connection) -> Self {
        Self {
            kafka,
            assigned: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            waiting: Mutex::default(),
            round: Mutex::new(Instant::now()),
            retrying: Mutex::default(),
            next_partition: Mutex::default(),
        }
    }

    /// Returns the state of the connection to Kafka.
    pub(crate) fn kafka(&self) -> &Connection {
        &self.kafka
    }

    /// Reports what the start waits for.
    pub(crate) fn waiting(&self, reason: Option<String>) {
        *lock(&self.waiting) = reason;
    }

    /// Reports that the group has assigned partitions to this consumer, possibly none.
    pub(crate) fn assigned(&self) {
        self.assigned.store(true, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
    }

    /// Reports that the group no longer counts this consumer as a member.
    pub(crate) fn lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Reports that the source begins a round.
    pub(crate) fn round(&self) {
        *lock(&self.round) = Instant::now();
    }

    /// Reports that a shutdown was requested.
    pub(crate) fn ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Reports that a writer has to retry its batch. `refused` is true if the server refused its login.
    pub(crate) fn retrying(&self, writer: usize, error: &str, refused: bool) {
        self.retrying_at(writer, error, refused, Instant::now());
    }

    fn retrying_at(&self, writer: usize, error: &str, refused: bool, now: Instant) {
        let mut retrying = lock(&self.retrying);
        let former = retrying.get(&writer);
        let since = former.map_or(now, |outage| outage.since);
        let refused_since = refused.then(|| former.and_then(|outage| outage.refused_since).unwrap_or(now));
        retrying.insert(writer, Outage { since, error: error.to_owned(), refused_since });
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

    /// Returns true if the ends of the partitions in Kafka cannot be known now.
    pub(crate) fn is_lag_unknown(&self) -> bool {
        let state = self.kafka.state(Instant::now());
        matches!(state, ConnectionState::Unavailable(_) | ConnectionState::LoginRefused(_))
    }

    /// Fails if Kafka or PostgreSQL has refused the login for longer than `grace`.
    pub(crate) fn check_logins(&self, grace: Duration) -> anyhow::Result<()> {
        self.check_logins_at(grace, Instant::now())
    }

    fn check_logins_at(&self, grace: Duration, now: Instant) -> anyhow::Result<()> {
        self.kafka.check_login(grace, now)?;
        match self.refused_login() {
            Some((since, error)) if now.saturating_duration_since(since) >= grace => anyhow::bail!(
                "cannot log in to PostgreSQL: refused for {} s: {error}; correct the password or the certificate of \
                 --database-url, or the file that has it",
                now.saturating_duration_since(since).as_secs()
            ),
            _ => Ok(()),
        }
    }

    /// Returns the longest refusal of a login to PostgreSQL.
    fn refused_login(&self) -> Option<(Instant, String)> {
        let retrying = lock(&self.retrying);
        let refused = retrying.values().filter_map(|outage| Some((outage.refused_since?, outage.error.clone())));
        refused.min_by_key(|(since, _)| *since)
    }

    fn ready_at(&self, now: Instant) -> Result<(), String> {
        if self.ending.load(Ordering::Relaxed) {
            return Err("shutting down".to_owned());
        }
        self.kafka_ready_at(now)?;
        if let Some((_, error)) = self.refused_login() {
            return Err(format!("postgres refuses the login: {error}"));
        }
        let longest = lock(&self.retrying).values().min_by_key(|outage| outage.since).cloned();
        if let Some(Outage { since, error, .. }) = longest
            && now.saturating_duration_since(since) >= RETRYING
        {
            let seconds = now.saturating_duration_since(since).as_secs();
            return Err(format!("postgres has accepted no batch for {seconds} s: {error}"));
        }
        if !self.assigned.load(Ordering::Relaxed) {
            let waiting = lock(&self.waiting).clone();
            return Err(waiting.unwrap_or_else(|| "no partitions assigned by the group yet".to_owned()));
        }
        if self.lost.load(Ordering::Relaxed) {
            return Err("partitions lost; the group has not assigned any again yet".to_owned());
        }
        self.went_round_within(SLOW, now)
    }

    fn kafka_ready_at(&self, now: Instant) -> Result<(), String> {
        match self.kafka.state(now) {
            ConnectionState::LoginRefused(outage) => Err(format!("kafka refuses the login: {}", outage.reason)),
            ConnectionState::Unavailable(outage)
                if outage.age(now) >= KAFKA_OUTAGE || self.lost.load(Ordering::Relaxed) =>
            {
                Err(format!("kafka unavailable for {} s: {}", outage.age(now).as_secs(), outage.reason))
            }
            _ => Ok(()),
        }
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
        let health = Health::new(Connection::default());
        assert!(health.ready().unwrap_err().contains("assigned") && health.live().is_ok());
        health.assigned();
        assert_eq!(health.ready(), Ok(()));
        health.ending();
        assert!(health.ready().unwrap_err().contains("shutting down") && health.live().is_ok());
    }

    #[test]
    fn an_outage_of_postgres_is_not_ready_but_alive() {
        let health = Health::new(Connection::default());
        health.assigned();
        health.retrying(1, "connection refused", false);
        health.retrying(2, "connection refused", false);
        assert_eq!(health.ready_at(after(4)), Ok(()));
        assert!(health.ready_at(after(6)).unwrap_err().contains("connection refused"));
        health.settled(1);
        assert!(health.ready_at(after(6)).is_err(), "the other one still waits");
        health.settled(2);
        assert_eq!(health.ready_at(after(6)), Ok(()));
    }

    #[test]
    fn a_source_that_stands_still_is_not_ready_and_at_last_not_alive() {
        let health = Health::new(Connection::default());
        health.assigned();
        assert!(health.ready_at(after(29)).is_ok());
        assert!(health.ready_at(after(31)).is_err() && health.live_at(after(31)).is_ok());
        assert!(health.live_at(after(301)).is_err());
        health.round();
        assert!(health.live_at(after(299)).is_ok());
    }

    #[test]
    fn an_outage_of_kafka_is_not_ready_once_the_partitions_are_lost_or_after_a_while() {
        let health = Health::new(Connection::default());
        health.assigned();
        health.kafka().succeeded();
        health.kafka().failed("connection refused");
        assert_eq!(health.ready_at(after(9)), Ok(()));
        assert!(health.ready_at(after(11)).unwrap_err().contains("kafka unavailable for 1"));
        health.lost();
        assert!(health.ready_at(after(4)).unwrap_err().contains("connection refused"));
        health.kafka().succeeded();
        assert!(health.ready_at(after(4)).unwrap_err().contains("partitions lost"));
        health.assigned();
        assert_eq!(health.ready_at(after(4)), Ok(()));
    }

    #[test]
    fn a_refused_login_is_not_ready_at_once_and_ends_the_process_after_the_grace_period() {
        let (health, grace) = (Health::new(Connection::default()), Duration::from_mins(2));
        health.assigned();
        health.retrying(1, "connection refused", false);
        health.retrying(1, "password authentication failed", true);
        assert!(health.ready_at(after(0)).unwrap_err().contains("postgres refuses the login: password"));
        assert!(health.check_logins_at(grace, after(119)).is_ok());
        assert!(health.check_logins_at(grace, after(121)).unwrap_err().to_string().contains("password authentication"));
        health.retrying(1, "connection refused", false);
        assert!(health.check_logins_at(grace, after(999)).is_ok(), "an outage is waited out");
        health.settled(1);
        assert_eq!(health.ready_at(after(6)), Ok(()));
    }
}
