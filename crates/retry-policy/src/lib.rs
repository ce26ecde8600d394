//! Retry policy of the programs and of the lake.
//!
//! A policy defines the delays between the attempts at an operation, and their limit:
//!
//! ```
//! use std::time::Duration;
//! use retry_policy::{Retryable, RetryPolicy};
//!
//! const POLICY: RetryPolicy = RetryPolicy::constant(Duration::from_millis(1)).with_retries(3);
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut attempts = 0;
//! let operation = || {
//!     attempts += 1;
//!     std::future::ready(if attempts < 3 { Err("no answer") } else { Ok(attempts) })
//! };
//! assert_eq!(operation.retry(POLICY).when(|error| *error == "no answer").await, Ok(3));
//! # }
//! ```

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

pub use backon::Retryable;

/// Delays between the attempts at an operation, and their limit.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    initial: Duration,
    factor: f32,
    maximum: Duration,
    jitter: bool,
    retries: Option<usize>,
    deadline: Option<Duration>,
}

impl RetryPolicy {
    /// Creates a policy with delays that double from `initial` to `maximum`, without a limit.
    ///
    /// Jitter extends each delay to at most twice its length. It differs between operations and between processes.
    #[must_use]
    pub const fn exponential(initial: Duration, maximum: Duration) -> Self {
        Self { initial, factor: 2.0, maximum, jitter: true, retries: None, deadline: None }
    }

    /// Creates a policy with constant delays, without jitter and without a limit.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { initial: delay, factor: 1.0, maximum: delay, jitter: false, retries: None, deadline: None }
    }

    /// Sets the maximum number of retries.
    #[must_use]
    pub const fn with_retries(self, retries: usize) -> Self {
        Self { retries: Some(retries), ..self }
    }

    /// Sets the time after which a failed attempt is not retried; `None` for no such limit.
    ///
    /// An attempt in flight is not interrupted.
    #[must_use]
    pub const fn with_deadline(self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self }
    }

    /// Returns the delays of one operation. The deadline is measured from this call.
    #[must_use]
    pub fn delays(self) -> Delays {
        let Self { initial, factor, maximum, jitter, retries, deadline } = self;
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(initial)
            .with_factor(factor)
            .with_max_delay(maximum)
            .without_max_times();
        if jitter {
            // Without its feature std, backon draws the same numbers in every process. The keys of a `RandomState` come
            // from the operating system.
            delays = delays.with_jitter().with_jitter_seed(RandomState::new().hash_one(0));
        }
        if let Some(retries) = retries {
            delays = delays.with_max_times(retries);
        }
        Delays { backoff: delays.build(), maximum, limit: deadline.map(|deadline| (Instant::now(), deadline)) }
    }
}

impl BackoffBuilder for RetryPolicy {
    type Backoff = Delays;

    fn build(self) -> Delays {
        self.delays()
    }
}

/// Delays of one operation. The iterator ends when the limit of the policy is reached.
#[derive(Debug)]
pub struct Delays {
    backoff: ExponentialBackoff,
    maximum: Duration,
    limit: Option<(Instant, Duration)>,
}

impl Delays {
    /// Returns the next delay of an operation that is retried indefinitely. After the limit this is the maximum.
    pub fn next_or_maximum(&mut self) -> Duration {
        self.next().unwrap_or(self.maximum)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.limit.is_some_and(|(start, deadline)| start.elapsed() >= deadline) {
            return None;
        }
        self.backoff.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_double_up_to_the_maximum() {
        let policy = RetryPolicy { jitter: false, ..RetryPolicy::exponential(millis(50), millis(300)) };
        let delays: Vec<u128> = policy.delays().take(6).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 300, 300, 300]);
    }

    #[test]
    fn jitter_makes_a_delay_up_to_twice_as_long() {
        let policy = RetryPolicy::exponential(millis(100), millis(100));
        let delays: Vec<Duration> = policy.delays().take(1_000).collect();
        assert!(delays.iter().all(|delay| (millis(100)..=millis(200)).contains(delay)));
        assert!(delays.iter().any(|delay| *delay != delays[0]), "they differ");
    }

    #[test]
    fn two_operations_have_different_delays() {
        let delays = || RetryPolicy::exponential(millis(100), millis(1_000)).delays().take(8).collect::<Vec<_>>();
        assert_ne!(delays(), delays());
    }

    #[test]
    fn retries_are_counted() {
        let mut delays = RetryPolicy::constant(millis(5)).with_retries(3).delays();
        assert_eq!(delays.by_ref().collect::<Vec<_>>(), [millis(5); 3]);
        assert_eq!(delays.next_or_maximum(), millis(5));
    }

    #[test]
    fn no_attempt_follows_the_deadline() {
        let count = |deadline| RetryPolicy::constant(millis(1)).with_deadline(deadline).delays().take(10).count();
        assert_eq!([Some(Duration::ZERO), Some(Duration::from_hours(1)), None].map(count), [0, 10, 10]);
    }
}
