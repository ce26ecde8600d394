//! Blocks that are sent and not yet known to be acknowledged.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lake::Counts;

/// A block whose records are all in the queue of the Kafka client or delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingBlock {
    /// Number of the block in this process, from 0.
    pub(crate) number: u64,
    /// Index after the last event that was sent.
    pub(crate) next_index: u64,
    /// Number of records that Kafka must acknowledge.
    pub(crate) records: u64,
    /// Counts of the events that were sent.
    pub(crate) counts: Counts,
}

/// Queue of blocks in ascending order, from the dispatcher to the checkpointer.
#[derive(Debug, Default)]
pub(crate) struct PendingBlocks(Mutex<VecDeque<PendingBlock>>);

impl PendingBlocks {
    pub(crate) fn push(&self, block: PendingBlock) {
        self.lock().push_back(block);
    }

    /// Removes and returns the first block if it is acknowledged.
    pub(crate) fn pop_if(&self, is_acknowledged: impl FnOnce(&PendingBlock) -> bool) -> Option<PendingBlock> {
        let mut blocks = self.lock();
        if blocks.front().is_some_and(is_acknowledged) { blocks.pop_front() } else { None }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PendingBlock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
