//! Kafka: a topic that may be recreated or truncated.

use ingest_protocol::position::RecordPosition;

/// Entry of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A transaction marker, which is not delivered.
    Control,
    /// A record with this event.
    Record { event: u8, refused: bool },
}

/// The topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    /// Incremented when the records are replaced.
    pub(crate) version: u8,
    /// ID that the cluster reports. A truncated log keeps it.
    pub(crate) id: u8,
}

/// Returns an entry of a log. Partition 0 begins with a transaction marker and has a record that PostgreSQL refuses at
/// offset 2. The event of its offset 1 is also the first one of partition 1.
pub(crate) fn entry(version: u8, partition: i32, offset: i64) -> Entry {
    let (partition, offset) = (u8::try_from(partition).unwrap(), u8::try_from(offset).unwrap());
    match (partition, offset) {
        (0, 0) => Entry::Control,
        (0, 1) | (_, 0) => Entry::Record { event: 100 * version, refused: false },
        _ => Entry::Record { event: 100 * version + 10 * partition + offset, refused: (partition, offset) == (0, 2) },
    }
}

/// Returns the position of a record, or `None` for a transaction marker.
pub(crate) fn position(version: u8, partition: i32, offset: i64) -> Option<RecordPosition> {
    let fingerprint = 1_000 * i64::from(version) + 100 * i64::from(partition) + offset;
    (entry(version, partition, offset) != Entry::Control).then_some(RecordPosition { offset, fingerprint })
}
