//! When and how a run ends before its own end.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// A run that is asked to end has ten seconds; the last one is for the manifest, the summary and the way out.
const PATIENCE: Duration = Duration::from_secs(9);

/// Whether the run is asked to end, and until when it must have.
#[derive(Clone, Debug)]
pub struct Ending {
    token: CancellationToken,
    asked_at: Arc<OnceLock<Instant>>,
}

impl Ending {
    /// An end that a token asks for. Must be called inside a Tokio runtime.
    #[must_use]
    pub fn on(token: CancellationToken) -> Self {
        let ending = Self { token, asked_at: Arc::default() };
        let watched = ending.clone();
        tokio::spawn(async move {
            watched.token.cancelled().await;
            watched.asked_at.get_or_init(Instant::now);
        });
        ending
    }

    /// Whether somebody asked for the end.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked_at.get().is_some()
    }

    /// Whether the time is over.
    #[must_use]
    pub fn over(&self) -> bool {
        self.asked_at.get().is_some_and(|asked| asked.elapsed() >= PATIENCE)
    }

    /// Waits until the time is over: for ever, unless somebody asks for the end.
    pub async fn until_over(&self) {
        self.token.cancelled().await;
        let asked = *self.asked_at.get_or_init(Instant::now);
        tokio::time::sleep_until((asked + PATIENCE).into()).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[tokio::test]
    async fn time_runs_from_when_it_was_asked() {
        let token = CancellationToken::new();
        let ending = Ending::on(token.clone());
        assert!(!ending.asked() && !ending.over());
        token.cancel();
        tokio::time::timeout(Duration::from_secs(5), async {
            while !ending.asked() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(!ending.over());

        let ending = Ending::on(token);
        let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
        ending.asked_at.get_or_init(|| long_ago);
        assert!(ending.asked() && ending.over());
        tokio::time::timeout(Duration::from_secs(5), ending.until_over()).await.unwrap();
    }
}
