//! Segments that are sent and not yet known to be stored.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lake::Counts;

/// A segment whose events are all sent to the sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingSegment {
    pub(crate) number: u64,
    /// Index after the last event.
    pub(crate) next_index: u64,
    /// Number of records that Kafka must acknowledge.
    pub(crate) records: u64,
    pub(crate) counts: Counts,
}

/// Queue of segments in ascending order, from the dispatcher to the checkpointer.
#[derive(Debug, Default)]
pub(crate) struct PendingSegments(Mutex<VecDeque<PendingSegment>>);

impl PendingSegments {
    pub(crate) fn push(&self, segment: PendingSegment) {
        self.lock().push_back(segment);
    }

    /// Removes and returns the first segment if it is stored.
    pub(crate) fn pop_if(&self, is_stored: impl FnOnce(&PendingSegment) -> bool) -> Option<PendingSegment> {
        let mut segments = self.lock();
        if segments.front().is_some_and(is_stored) { segments.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PendingSegment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
