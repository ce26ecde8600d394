//! Counts of the events sent so far, shared with the metrics and the manifest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lake::Counts;

/// Running totals of a run.
#[derive(Debug, Default)]
pub(crate) struct RunCounts(Mutex<SentEvents>);

/// Events sent to the sinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentEvents {
    /// Index after the last event.
    pub(crate) next_index: u64,
    pub(crate) counts: Counts,
}

impl RunCounts {
    /// Creates the totals of a run that sent some events before.
    pub(crate) fn resuming(sent: SentEvents) -> Self {
        Self(Mutex::new(sent))
    }

    /// Adds the counts of the events up to `next_index`.
    pub(crate) fn add(&self, next_index: u64, counts: &Counts) {
        let mut sent = self.lock();
        sent.next_index = next_index;
        sent.counts.merge(counts);
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.lock().next_index
    }

    pub(crate) fn sent(&self) -> SentEvents {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, SentEvents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up() {
        let mut before = SentEvents { next_index: 100, ..SentEvents::default() };
        before.counts.outcomes.valid = 100;
        let totals = RunCounts::resuming(before);
        let mut counts = Counts::default();
        counts.outcomes.invalid = 3;
        totals.add(103, &counts);
        assert_eq!((totals.next_index(), totals.sent().counts.outcomes.generated()), (103, 103));
    }
}
