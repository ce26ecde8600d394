//! The data about one event in all stores, in 40 bytes, because a run may have tens of millions of events.

use std::fmt;

/// Positions, copies and content of one event in the stores. Numbers of copies saturate at 255.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trace {
    /// Hash of the first content read: Kafka's, else the lake's, else the table's.
    pub(crate) content: u64,
    /// Position of the last record in Kafka.
    pub(crate) place: RecordIndex,
    /// Milliseconds since 1970 in the ID.
    pub(crate) millis: u64,
    /// Number of the last lake file.
    pub(crate) file: u32,
    /// Day of the last row in the table, in days since 1970.
    pub(crate) day: u32,
    /// Number of readable records in Kafka.
    pub(crate) kafka: u8,
    /// Number of these records that have a dead letter.
    pub(crate) lettered: u8,
    /// Number of corrupt records in Kafka.
    pub(crate) corrupt: u8,
    /// Number of rows in the raw lake.
    pub(crate) lake: u8,
    /// Number of rows in quarantine.
    pub(crate) quarantine: u8,
    /// Number of rows in the table.
    pub(crate) table: u8,
    /// Number of dead letters of corrupt records.
    pub(crate) letters: u8,
    marks: u8,
}

/// A property of an event that the numbers of copies do not show.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// The records in Kafka have different contents.
    KafkaDiffers = 1,
    /// The content in the lake differs from Kafka's.
    LakeDiffers = 2,
    /// The content in the table differs from that of Kafka or, without a record, of the lake.
    TableDiffers = 4,
    /// The table has two rows: of an event of the run, or of another event on one day.
    TwiceADay = 8,
    /// A record has a dead letter that was not replayed.
    OpenLetter = 16,
}

impl Trace {
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks |= mark as u8;
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }

    /// Records the first content, or marks the event if a later content differs from it.
    pub(crate) fn compare(&mut self, content: u64, differs: Mark) {
        if !self.is_valid() {
            self.content = content;
        } else if self.content != content {
            self.mark(differs);
        }
    }

    /// Returns the number of readable records without a dead letter. Each must be the row in the table or a duplicate
    /// of it.
    pub(crate) fn clean(&self) -> u8 {
        self.kafka.saturating_sub(self.lettered)
    }

    /// Returns true if any store has it as a valid event.
    pub(crate) fn is_valid(&self) -> bool {
        self.kafka > 0 || self.lake > 0 || self.table > 0
    }

    /// Returns the number of kinds that the stores show, 0 to 3: valid, invalid (in quarantine), corrupt (in Kafka or
    /// in the dead letters).
    pub(crate) fn kinds(&self) -> u8 {
        u8::from(self.is_valid()) + u8::from(self.quarantine > 0) + u8::from(self.corrupt > 0 || self.letters > 0)
    }
}

/// Partition and offset, packed into 16 and 48 bits.
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
