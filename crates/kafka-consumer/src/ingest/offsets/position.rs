//! Position of a partition in PostgreSQL.

use crate::kafka::fingerprint::RecordPosition;

/// Position of a partition in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The offset to go on from.
    pub(crate) next_offset: i64,
    /// How often the topic was made anew.
    pub(crate) incarnation: i32,
    /// The last record that was read.
    pub(crate) last: Option<RecordPosition>,
    /// One after the last record that is a dead letter; beyond the offset to go on from where that was set back.
    pub(crate) lettered_up_to: i64,
}

/// A partition that a writer owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnedPartition {
    /// Assignment under which its records are read.
    pub(crate) epoch: u64,
    /// Position that the next batch continues from.
    pub(crate) position: Position,
}
