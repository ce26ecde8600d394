//! Messages between the source and a writer.

use ingest_protocol::position::Position;
use tokio::sync::oneshot;

use crate::ingest::batch::closed::Batch;

/// Command of the source. A writer executes commands in the order in which they were sent.
#[derive(Debug)]
pub(crate) enum Command {
    /// The writer owns this partition from now on.
    Own {
        partition: i32,
        /// Assignment of the partition. Parts of a batch that were read under another one are dropped.
        epoch: u64,
        /// Position in PostgreSQL.
        position: Position,
    },
    /// The writer no longer owns these partitions.
    Release {
        partitions: Vec<i32>,
        /// Answered after all earlier commands, when no record of the partitions is in flight.
        done: oneshot::Sender<()>,
    },
    /// Write this batch.
    Write(Batch),
}

/// Report of a writer.
#[derive(Debug)]
pub(crate) enum Report {
    /// A batch was committed.
    Committed {
        /// Partitions of the batch and their new offsets.
        offsets: Vec<(i32, i64)>,
    },
    /// Another consumer moved this partition's offset. The in-flight records of the partition are dropped.
    Moved {
        partition: i32,
        /// Assignment under which the records were read.
        epoch: u64,
    },
    /// The writer ended with an error, which its task returns.
    Failed,
}
