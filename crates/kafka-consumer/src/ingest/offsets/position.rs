//! Position of a partition, and its ownership by a writer.

use crate::kafka::fingerprint::RecordPosition;

/// Position of a partition in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Offset of the next record.
    pub(crate) next_offset: i64,
    /// Incarnation of the topic. Incremented each time the topic is found to be recreated.
    pub(crate) incarnation: i32,
    /// Last record that was read.
    pub(crate) last: Option<RecordPosition>,
    /// Offset after the last dead letter of this incarnation, or 0. Greater than `next_offset` if the offset was set
    /// back.
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
