//! Positions of records and of partitions.

/// Position of a record in its partition, with its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordPosition {
    /// Offset of the record.
    pub offset: i64,
    /// Fingerprint of the record.
    pub fingerprint: i64,
}

/// Position of a partition in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Offset of the next record.
    pub next_offset: i64,
    /// Incarnation of the topic. Incremented each time the topic is found to be recreated.
    pub incarnation: i32,
    /// Last record that was read.
    pub last: Option<RecordPosition>,
    /// Offset after the last dead letter of this incarnation, or 0. Greater than `next_offset` if the offset was set
    /// back.
    pub lettered_up_to: i64,
}

/// A partition that a writer owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnedPartition {
    /// Assignment under which its records are read.
    pub epoch: u64,
    /// Position that the next batch continues from.
    pub position: Position,
}
