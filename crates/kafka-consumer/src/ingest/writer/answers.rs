//! Timeout for answers of PostgreSQL.
//!
//! A connection can be half open: a proxy acknowledges every byte although the server behind it is gone, so TCP's own
//! timeouts do not fire. A staged insert may take many minutes with many statements, and each of them must be answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

/// Time of the last answer during an attempt.
#[derive(Debug)]
pub(crate) struct Answers {
    started: Instant,
    /// Milliseconds from `started` to the last answer.
    last: AtomicU64,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Notes an answer.
    pub(crate) fn note(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Runs `work`, which notes each answer. Returns `None` when `silence` has passed since the last answer, or `total`
    /// since the start.
    pub(crate) async fn watch<T>(
        &self,
        silence: Duration,
        total: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let silent = async {
            loop {
                let deadline = self.deadline(silence);
                sleep_until(deadline).await;
                if self.deadline(silence) == deadline {
                    return;
                }
            }
        };
        let watched = async {
            tokio::select! {
                done = work => Some(done),
                () = silent => None,
            }
        };
        timeout_at(Instant::now() + total, watched).await.ok().flatten()
    }

    /// Returns the time at which the silence since the last answer is too long.
    fn deadline(&self, silence: Duration) -> Instant {
        self.started + Duration::from_millis(self.last.load(Ordering::Relaxed)) + silence
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn work_with_answers_may_take_longer_than_one_of_them() {
        let answers = Answers::new();
        let work = async {
            for _ in 0..5 {
                sleep(SHORT / 2).await;
                answers.note();
            }
            7
        };
        assert_eq!(answers.watch(SHORT, LONG, work).await, Some(7));
    }

    #[tokio::test]
    async fn the_silence_is_measured_from_the_last_answer() {
        let answers = Answers { started: Instant::now(), last: AtomicU64::new(10) };
        let expected = answers.started + Duration::from_millis(10) + SHORT;
        assert_eq!(answers.deadline(SHORT), expected);
        sleep(SHORT / 5).await;
        answers.note();
        assert!(answers.deadline(SHORT) > expected);
    }

    #[tokio::test]
    async fn silence_ends_the_work() {
        let answers = Answers::new();
        let work = async {
            answers.note();
            sleep(LONG).await;
        };
        assert_eq!(answers.watch(SHORT, LONG, work).await, None);
    }

    #[tokio::test]
    async fn the_total_ends_the_work_too() {
        let answers = Answers::new();
        let work = async {
            loop {
                sleep(SHORT / 10).await;
                answers.note();
            }
        };
        assert_eq!(answers.watch(SHORT, SHORT * 3, work).await, None::<()>);
    }
}
