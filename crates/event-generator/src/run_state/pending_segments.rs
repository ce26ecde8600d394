//! Segments that are handed out and not yet known to be stored.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lake::Counts;

/// A segment all of whose events are handed to the sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its number.
    pub segment: u64,
    /// The index after its last one.
    pub next_index: u64,
    /// Records that Kafka must acknowledge.
    pub records: u64,
    /// What is in it.
    pub counts: Counts,
}

/// Segments in the order of their numbers, from the thread that sends to the one that keeps the state.
#[derive(Debug, Default)]
pub struct Checkpoints(Mutex<VecDeque<Handed>>);

impl Checkpoints {
    /// Adds the next one.
    pub fn push(&self, handed: Handed) {
        self.lock().push_back(handed);
    }

    /// Takes the next one if it is stored.
    pub fn pop_if(&self, is_stored: impl FnOnce(&Handed) -> bool) -> Option<Handed> {
        let mut segments = self.lock();
        if segments.front().is_some_and(is_stored) { segments.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Handed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
