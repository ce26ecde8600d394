//! Limit on the time that PostgreSQL takes to answer.
//!
//! A connection can be half open: a proxy on the way still acknowledges every byte, but the server is gone, so TCP's own
//! timeouts do not notice. A staged insert may take many minutes with many statements, and each of them must be answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Counts the answers during a transaction.
#[derive(Debug, Default)]
pub(crate) struct Answers(AtomicU64);

impl Answers {
    /// Notes an answer.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs work that notes its answers. Returns `None` after `silence` without an answer, or after `total`.
    pub(crate) async fn watch<T>(
        &self,
        silence: Duration,
        total: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let silent = async {
            let mut before = self.0.load(Ordering::Relaxed);
            loop {
                sleep(silence).await;
                let now = self.0.load(Ordering::Relaxed);
                if now == before {
                    return;
                }
                before = now;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn work_with_answers_may_take_longer_than_one_of_them() {
        let answers = Answers::default();
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
    async fn silence_ends_the_work() {
        let answers = Answers::default();
        let work = async {
            answers.note();
            sleep(LONG).await;
        };
        assert_eq!(answers.watch(SHORT, LONG, work).await, None);
    }

    #[tokio::test]
    async fn the_total_ends_the_work_too() {
        let answers = Answers::default();
        let work = async {
            loop {
                sleep(SHORT / 10).await;
                answers.note();
            }
        };
        assert_eq!(answers.watch(SHORT, SHORT * 3, work).await, None::<()>);
    }
}
