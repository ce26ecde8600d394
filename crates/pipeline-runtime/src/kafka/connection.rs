//! State of the connection to Kafka, shared by all clients of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thiserror::Error;

use super::Credentials;

/// Duration of failures from which they count as an outage. A client that reconnects at once stays below it.
const OUTAGE: Duration = Duration::from_secs(3);

/// State of the connection to Kafka. Clones share it.
///
/// Clients report failures, refused logins and successful requests. Failures before the first success are ignored: a
/// program that cannot connect at its start exits with a separate error.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    state: Arc<Mutex<State>>,
    credentials: Credentials,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    failing: Option<Outage>,
    refused: Option<Outage>,
    /// True if the present outage is in the log.
    logged: bool,
}

/// Beginning and last reason of an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Time of the first failure.
    pub since: Instant,
    /// Last reason, as librdkafka reported it.
    pub reason: String,
}

/// Present state of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// No request has succeeded since the start.
    Connecting,
    /// Requests succeed.
    Connected,
    /// No broker answers.
    Unavailable(Outage),
    /// Brokers answer but refuse the credentials.
    LoginRefused(Outage),
}

/// The brokers have refused the login for longer than permitted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "cannot log in to Kafka: refused for {seconds} s: {reason}; correct the credentials in -X or in the file of \
     --kafka-config"
)]
pub struct LoginRefused {
    seconds: u64,
    reason: String,
}

impl Outage {
    /// Returns the time since the first failure.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Connection {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { state: Arc::default(), credentials }
    }

    /// Returns the credentials of the clients.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the configuration with the present credentials.
    #[must_use]
    pub fn refreshed(&self, config: &ClientConfig) -> ClientConfig {
        self.credentials.refreshed(config)
    }

    /// Reports a successful request.
    pub fn succeeded(&self) {
        self.succeeded_at(Instant::now());
    }

    /// Reports the result of a request. An error that a broker returned is an answer too.
    pub fn answered<T>(&self, result: &Result<T, KafkaError>) {
        match result {
            Err(error) if is_no_answer(error) => self.failed(&error.to_string()),
            _ => self.succeeded(),
        }
    }

    /// Reports that no broker answers.
    pub fn failed(&self, reason: &str) {
        self.failed_at(reason, Instant::now());
    }

    /// Reports that a broker refused the login.
    pub fn refused(&self, reason: &str) {
        self.refused_at(reason, Instant::now());
    }

    /// Returns true if a request has succeeded since the start.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.lock().connected
    }

    /// Returns the present state.
    #[must_use]
    pub fn state(&self, now: Instant) -> ConnectionState {
        let state = self.lock();
        match (&state.refused, &state.failing) {
            (Some(outage), _) => ConnectionState::LoginRefused(outage.clone()),
            (None, Some(outage)) if outage.age(now) >= OUTAGE => ConnectionState::Unavailable(outage.clone()),
            _ if state.connected => ConnectionState::Connected,
            _ => ConnectionState::Connecting,
        }
    }

    /// Returns the refusal while the login is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Outage> {
        self.lock().refused.clone()
    }

    /// Fails if the login has been refused for longer than `grace`.
    pub fn check_login(&self, grace: Duration, now: Instant) -> Result<(), LoginRefused> {
        match self.refusal() {
            Some(refusal) if refusal.age(now) >= grace => {
                Err(LoginRefused { seconds: refusal.age(now).as_secs(), reason: refusal.reason })
            }
            _ => Ok(()),
        }
    }

    /// Logs the present outage, once. To be called several times a second.
    pub fn log_outage(&self, now: Instant) {
        let state = self.state(now);
        if let ConnectionState::Unavailable(Outage { reason, .. }) = state
            && !std::mem::replace(&mut self.lock().logged, true)
        {
            tracing::warn!(reason, "kafka unavailable");
        }
    }

    fn succeeded_at(&self, now: Instant) {
        let mut state = self.lock();
        state.connected = true;
        let failing = state.failing.take();
        let outage = state.refused.take().or(failing);
        if let (true, Some(outage)) = (std::mem::take(&mut state.logged), outage) {
            tracing::info!(seconds = outage.age(now).as_secs(), "kafka available again");
        }
    }

    fn failed_at(&self, reason: &str, now: Instant) {
        let mut state = self.lock();
        if state.connected {
            begin(&mut state.failing, reason, now);
        }
    }

    fn refused_at(&self, reason: &str, now: Instant) {
        let mut state = self.lock();
        if state.connected {
            if state.refused.is_none() {
                tracing::warn!(reason, "kafka login refused");
                state.logged = true;
            }
            begin(&mut state.refused, reason, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(outage: &mut Option<Outage>, reason: &str, now: Instant) {
    let since = outage.as_ref().map_or(now, |outage| outage.since);
    *outage = Some(Outage { since, reason: reason.to_owned() });
}

/// Returns true if no broker answered, or if the client is not connected to any.
#[must_use]
pub(super) fn is_no_answer(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::TimedOutQueue
                | Code::Resolve
                | Code::Authentication
                | Code::SSL
                | Code::WaitingForCoordinator
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_counts_before_the_first_success() {
        let (connection, start) = (Connection::default(), Instant::now());
        connection.failed_at("refused", start);
        connection.refused_at("password", start);
        assert_eq!(connection.state(at(start, 60)), ConnectionState::Connecting);
        connection.succeeded_at(at(start, 60));
        assert_eq!(connection.state(at(start, 60)), ConnectionState::Connected);
    }

    #[test]
    fn an_outage_lasts_from_its_first_failure_to_the_next_success() {
        let (connection, start) = (Connection::default(), Instant::now());
        connection.succeeded_at(start);
        connection.failed_at("connection refused", start);
        assert_eq!(connection.state(at(start, 1)), ConnectionState::Connected, "a client that reconnects at once");
        connection.failed_at("timed out", at(start, 1));
        let outage = Outage { since: start, reason: "timed out".to_owned() };
        assert_eq!(connection.state(at(start, 3)), ConnectionState::Unavailable(outage));
        connection.log_outage(at(start, 3));
        assert!(connection.lock().logged);
        connection.succeeded_at(at(start, 4));
        assert_eq!(connection.state(at(start, 9)), ConnectionState::Connected);
        assert!(!connection.lock().logged, "the next outage is logged again");
    }

    #[test]
    fn a_refused_login_counts_at_once_and_ends_the_process_after_the_grace_period() {
        let (connection, start) = (Connection::default(), Instant::now());
        connection.succeeded_at(start);
        connection.failed_at("connection refused", start);
        connection.refused_at("invalid credentials", at(start, 1));
        let refusal = Outage { since: at(start, 1), reason: "invalid credentials".to_owned() };
        assert_eq!(connection.state(at(start, 1)), ConnectionState::LoginRefused(refusal));
        let grace = Duration::from_mins(2);
        assert_eq!(connection.check_login(grace, at(start, 120)), Ok(()));
        let text = connection.check_login(grace, at(start, 121)).map_err(|error| error.to_string());
        assert!(text.is_err_and(|text| text.contains("120 s: invalid credentials")));
        connection.succeeded_at(at(start, 122));
        assert_eq!(connection.check_login(grace, at(start, 999)), Ok(()));
    }

    #[test]
    fn an_error_of_a_broker_is_an_answer() {
        let (connection, start) = (Connection::default(), Instant::now());
        connection.succeeded_at(start);
        connection.failed_at("connection refused", start);
        connection.answered::<()>(&Err(KafkaError::MetadataFetch(Code::OperationTimedOut)));
        assert!(matches!(connection.state(at(start, 5)), ConnectionState::Unavailable(_)));
        connection.answered::<()>(&Err(KafkaError::MetadataFetch(Code::TopicAuthorizationFailed)));
        assert_eq!(connection.state(at(start, 5)), ConnectionState::Connected);
    }
}
