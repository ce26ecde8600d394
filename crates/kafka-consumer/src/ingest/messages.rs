//! What the source and a writer tell each other.

use tokio::sync::oneshot;

use crate::ingest::batch::closed::Batch;
use crate::ingest::offsets::position::Position;

/// What a writer is told, in this order of importance: the order in which it is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A partition is its own from here on.
    Own {
        /// The partition.
        partition: i32,
        /// The assignment; parts of another one are dropped.
        epoch: u64,
        /// Where PostgreSQL has it.
        position: Position,
    },
    /// The partitions are no longer its own; answer when nothing of them is in hand.
    Release {
        /// The partitions.
        partitions: Vec<i32>,
        /// The answer.
        done: oneshot::Sender<()>,
    },
    /// Bring this in.
    Write(Batch),
}

/// What a writer reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// A batch is committed.
    Committed {
        /// The new offset of each partition in it.
        offsets: Vec<(i32, i64)>,
    },
    /// Another consumer has moved this partition's offset: what was in hand of it is dropped.
    Moved {
        /// The partition.
        partition: i32,
        /// The assignment under which it was read.
        epoch: u64,
    },
    /// The writer ends with an error, which its task gives.
    Failed,
}
