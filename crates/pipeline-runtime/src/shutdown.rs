//! Graceful shutdown, requested by a user or a supervisor.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

use crate::exit;

/// Time from the signal to the end of the process, even if something hangs.
///
/// The grace periods of the programs are shorter; supervisors wait for ten seconds.
const DEADLINE: Duration = Duration::from_millis(9_900);
/// Part of `DEADLINE` reserved for the error message, in case stderr blocks.
const TIME_TO_PRINT: Duration = Duration::from_millis(200);
/// Interval of the checks for a second signal and for the deadline.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Part of the shutdown that the process currently waits for.
static WAITING_FOR: Mutex<&str> = Mutex::new("nothing");

/// Sets the part of the shutdown that the process waits for. The message of an exceeded deadline names it.
pub fn waiting_for(part: &'static str) {
    *WAITING_FOR.lock().unwrap_or_else(PoisonError::into_inner) = part;
}

/// A shutdown requested by a signal or by the program, and the deadline for the work in flight.
///
/// Clones share one shutdown.
#[derive(Clone, Debug)]
pub struct ShutdownDeadline {
    token: CancellationToken,
    requested_at: Arc<OnceLock<Instant>>,
    grace: Duration,
}

impl ShutdownDeadline {
    /// Creates a shutdown that is not requested yet. `grace` is the time for the work in flight.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), requested_at: Arc::default(), grace }
    }

    /// Creates a shutdown that SIGINT or SIGTERM requests.
    ///
    /// A second signal ends the process at once, with the exit code that shells use for a process killed by that
    /// signal. A process that still runs 9.9 s after the first signal ends with exit code 1, regardless of its grace
    /// period. A separate thread does both, so no other thread can delay them.
    pub fn on_signal(grace: Duration) -> io::Result<Self> {
        let shutdown = Self::new(grace);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let signalled = shutdown.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            let deadline = Instant::now() + DEADLINE.saturating_sub(TIME_TO_PRINT);
            signalled.request();
            log(move || tracing::info!(signal, "shutting down; a second signal ends the process at once"));
            while Instant::now() < deadline {
                thread::sleep(CHECK_INTERVAL);
                if let Some(signal) = signals.pending().next() {
                    exit::now(128 + u8::try_from(signal).unwrap_or(0));
                }
            }
            log(|| {
                let waited_for = *WAITING_FOR.lock().unwrap_or_else(PoisonError::into_inner);
                tracing::error!(waited_for, "shutdown deadline exceeded; exiting");
            });
            thread::sleep(TIME_TO_PRINT);
            exit::now(1)
        })?;
        Ok(shutdown)
    }

    /// Requests the shutdown. The grace period starts with the first request.
    pub fn request(&self) {
        self.requested_at.get_or_init(Instant::now);
        self.token.cancel();
    }

    /// Returns true if the shutdown has been requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested_at.get().is_some()
    }

    /// Returns true if the grace period has elapsed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.requested_at.get().is_some_and(|requested_at| requested_at.elapsed() >= self.grace)
    }

    /// Waits until the shutdown is requested.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Waits until the shutdown is requested and the grace period has elapsed.
    pub async fn over(&self) {
        self.requested().await;
        let requested_at = *self.requested_at.get_or_init(Instant::now);
        tokio::time::sleep_until((requested_at + self.grace).into()).await;
    }

    /// Returns the grace period: the time for the work in flight.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.grace
    }
}

/// Logs on a separate thread, because stderr may block.
fn log(line: impl FnOnce() + Send + 'static) {
    // If the thread cannot be started, the line is lost.
    let _ = thread::Builder::new().name("shutdown-log".to_owned()).spawn(line);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    #[tokio::test]
    async fn the_time_starts_with_the_request() {
        let shutdown = ShutdownDeadline::new(Duration::from_secs(9));
        let clone = shutdown.clone();
        assert!(!clone.is_requested() && !clone.is_over() && !is_ready(clone.requested()));
        shutdown.request();
        assert!(clone.is_requested() && !clone.is_over() && is_ready(clone.requested()) && !is_ready(clone.over()));

        let long_ago = ShutdownDeadline::new(Duration::from_secs(9));
        long_ago.requested_at.set(Instant::now().checked_sub(Duration::from_secs(9)).unwrap()).unwrap();
        long_ago.request();
        assert!(long_ago.is_requested() && long_ago.is_over());
        long_ago.over().await;
    }
}
