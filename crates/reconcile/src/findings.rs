//! Counts differences and collects examples of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of examples of each kind of difference.
pub(crate) const EXAMPLES: usize = 10;

/// Differences of one kind. Any number of threads may add to them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    count: AtomicU64,
    examples: Mutex<Vec<String>>,
}

impl Findings {
    pub(crate) fn add(&self, example: impl FnOnce() -> String) {
        if self.count.fetch_add(1, Ordering::Relaxed) < EXAMPLES as u64 {
            self.examples.lock().unwrap_or_else(PoisonError::into_inner).push(example());
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn examples(&self) -> Vec<String> {
        let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        examples.sort_unstable();
        examples
    }
}
