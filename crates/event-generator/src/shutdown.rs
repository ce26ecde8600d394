//! The deadline of a run that is asked to stop.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Time to store the events sent so far. The process has ten seconds; the rest is for the manifest and the summary.
const TIME_TO_STORE: Duration = Duration::from_secs(9);

/// Tells the parts of the run that a shutdown was requested, and when its time is over.
#[derive(Clone, Debug)]
pub(crate) struct ShutdownDeadline {
    token: CancellationToken,
    requested_at: Arc<OnceLock<Instant>>,
}

impl ShutdownDeadline {
    /// Starts to watch a token that requests the shutdown. Must be called inside a Tokio runtime.
    pub(crate) fn watch(token: CancellationToken) -> Self {
        let deadline = Self { token, requested_at: Arc::default() };
        let watched = deadline.clone();
        tokio::spawn(async move {
            watched.token.cancelled().await;
            watched.requested_at.get_or_init(Instant::now);
        });
        deadline
    }

    /// Returns true once the shutdown is requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested_at.get().is_some()
    }

    /// Returns true once the time to store events is over.
    pub(crate) fn is_over(&self) -> bool {
        self.requested_at.get().is_some_and(|requested| requested.elapsed() >= TIME_TO_STORE)
    }

    /// Waits until the time to store events is over. Without a request it waits forever.
    pub(crate) async fn wait(&self) {
        self.token.cancelled().await;
        let requested = *self.requested_at.get_or_init(Instant::now);
        tokio::time::sleep_until((requested + TIME_TO_STORE).into()).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn time_runs_from_the_request() {
        let token = CancellationToken::new();
        let deadline = ShutdownDeadline::watch(token.clone());
        assert!(!deadline.is_requested() && !deadline.is_over());
        token.cancel();
        tokio::time::timeout(Duration::from_secs(5), async {
            while !deadline.is_requested() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(!deadline.is_over());

        let deadline = ShutdownDeadline::watch(token);
        let long_ago = Instant::now().checked_sub(TIME_TO_STORE).unwrap();
        deadline.requested_at.get_or_init(|| long_ago);
        assert!(deadline.is_requested() && deadline.is_over());
        tokio::time::timeout(Duration::from_secs(5), deadline.wait()).await.unwrap();
    }
}
