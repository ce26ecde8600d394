//! Access of a test to a running writer. It requires the feature `failpoints`.

use ingest_protocol::attempts::Attempts;

#[cfg(feature = "failpoints")]
use std::sync::{Arc, Mutex, PoisonError};

/// State that a writer shows to a test, and the timeout that the test can bring forward.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    #[cfg(feature = "failpoints")]
    attempts: Arc<Mutex<Option<Attempts>>>,
    #[cfg(feature = "failpoints")]
    timeout: Arc<tokio::sync::Notify>,
}

/// Does nothing without the feature.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unused_self, reason = "the same calls as with the feature")]
impl Probe {
    pub(crate) fn attempt_begins(&self, _: Attempts) {}

    pub(crate) async fn timed_out(&self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(feature = "failpoints")]
impl Probe {
    /// Shows the state of the batch before an attempt.
    pub(crate) fn attempt_begins(&self, attempts: Attempts) {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempts);
    }

    /// Waits until the test ends the wait for an answer of PostgreSQL.
    pub(crate) async fn timed_out(&self) {
        self.timeout.notified().await;
    }

    /// Returns the state of the batch before the last attempt.
    pub(crate) fn attempts(&self) -> Option<Attempts> {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait for an answer of PostgreSQL, as if its limit had passed.
    pub(crate) fn time_out(&self) {
        self.timeout.notify_waiters();
    }
}
