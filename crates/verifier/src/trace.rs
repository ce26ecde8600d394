//! What the stores show of one event. Forty bytes, because a run may have tens of millions of them.

use std::fmt;

/// Where one event was seen, how often, and with which content.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trace {
    /// Hash of the content where it was first seen: Kafka's, else the lake's, else the table's.
    pub(crate) content: u64,
    /// Of the last record in Kafka.
    pub(crate) place: RecordIndex,
    /// Milliseconds at the head of the id.
    pub(crate) millis: u64,
    /// The last lake file, as a number.
    pub(crate) file: u32,
    /// Days since 1970 of the last row in the table.
    pub(crate) day: u32,
    /// Readable records in Kafka.
    pub(crate) kafka: u8,
    /// Those among them that have a dead letter.
    pub(crate) lettered: u8,
    /// Records in Kafka that were sent broken on purpose.
    pub(crate) corrupt: u8,
    /// Rows in the raw lake.
    pub(crate) lake: u8,
    /// Rows in quarantine.
    pub(crate) quarantine: u8,
    /// Rows in the table.
    pub(crate) table: u8,
    /// Dead letters of a record that was sent broken on purpose.
    pub(crate) letters: u8,
    marks: u8,
}

/// Something seen of an event that counts cannot tell.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// Records of one id whose content differs.
    KafkaDiffers = 1,
    /// The lake's content is another than Kafka's.
    LakeDiffers = 2,
    /// The table's content is another than that of Kafka or the lake.
    TableDiffers = 4,
    /// Two rows of one day in the table.
    TwiceADay = 8,
    /// A dead letter that was not replayed.
    OpenLetter = 16,
}

impl Trace {
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks |= mark as u8;
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }

    /// Notes a content, and the mark if it is another than the one already known.
    pub(crate) fn compare(&mut self, content: u64, differs: Mark) {
        if !self.is_valid() {
            self.content = content;
        } else if self.content != content {
            self.mark(differs);
        }
    }

    /// Readable records without a dead letter: each must be the table's row or a repeat of it.
    pub(crate) fn clean(&self) -> u8 {
        self.kafka.saturating_sub(self.lettered)
    }

    /// Whether it is anywhere as a valid event.
    pub(crate) fn is_valid(&self) -> bool {
        self.kafka > 0 || self.lake > 0 || self.table > 0
    }

    /// As how many of the three kinds it shows: valid, invalid (in quarantine), corrupt (in Kafka or in the dead letters).
    pub(crate) fn kinds(&self) -> u8 {
        u8::from(self.is_valid()) + u8::from(self.quarantine > 0) + u8::from(self.corrupt > 0 || self.letters > 0)
    }
}

/// Partition and offset in eight bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordIndex(u64);

const OFFSET_BITS: u32 = 48;

impl RecordIndex {
    pub(crate) fn new(partition: i32, offset: i64) -> Self {
        let partition = u64::from(partition.unsigned_abs());
        Self((partition << OFFSET_BITS) | (offset.unsigned_abs() & ((1 << OFFSET_BITS) - 1)))
    }

    pub(crate) fn partition(self) -> i32 {
        i32::try_from(self.0 >> OFFSET_BITS).unwrap_or(i32::MAX)
    }

    pub(crate) fn offset(self) -> i64 {
        i64::try_from(self.0 & ((1 << OFFSET_BITS) - 1)).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for RecordIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offset {}", self.partition(), self.offset())
    }
}
