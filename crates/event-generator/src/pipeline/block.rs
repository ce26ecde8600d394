//! A block of consecutive events: generated, validated and serialized.

use std::io::Write;
use std::ops::Range;

use workload::{Fault, Generated, Source};

use super::block_counts::BlockCounts;
use crate::validate::{Validated, validate};

/// Records of consecutive indices, in ascending order.
#[derive(Debug)]
pub struct Block {
    pub(super) range: Range<u64>,
    /// One record per event that goes to Kafka. Invalid events have none.
    pub(super) records: Vec<Record>,
    pub(super) counts: BlockCounts,
    /// Keys and values, concatenated.
    bytes: Vec<u8>,
}

/// The record of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Index of the event.
    pub(super) index: u64,
    /// Time at which the event is due, in microseconds since the epoch.
    pub(super) due: i64,
    pub(super) form: RecordForm,
    own: RecordBytes,
    copy: Option<RecordBytes>,
}

/// Position of a key and a value in a block's bytes.
#[derive(Clone, Copy, Debug)]
struct RecordBytes {
    key_at: u32,
    value_at: u32,
    end: u32,
}

/// Form in which a record is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordForm {
    /// Once.
    Plain,
    /// Followed by a copy of itself or of an earlier event.
    Duplicated,
    /// Corrupt: with headers that name the run and the index, which cannot be read from the value.
    Corrupt,
}

/// Initial capacity for the key and the value of an event.
const RECORD_BYTES: usize = 240;

impl Block {
    /// Generates the events of a range. Without `records` it only validates and counts them.
    #[must_use]
    pub fn generate(source: &Source, range: Range<u64>, records: bool) -> Self {
        let len = if records { usize::try_from(range.end - range.start).unwrap_or(0) } else { 0 };
        let mut block = Self {
            range: range.clone(),
            records: Vec::with_capacity(len),
            counts: BlockCounts::default(),
            bytes: Vec::with_capacity(len * RECORD_BYTES),
        };
        for index in range {
            let generated = source.make(index);
            let validated = validate(&generated);
            block.counts.add(&generated, &validated);
            let form = match validated {
                Validated::Invalid { .. } => continue,
                Validated::Corrupt => RecordForm::Corrupt,
                Validated::Valid if is_duplicated(&generated) => RecordForm::Duplicated,
                Validated::Valid => RecordForm::Plain,
            };
            if records {
                let own = block.write(&generated);
                let copy = source
                    .copy_after(&generated)
                    .map(|copy| if copy.index == index { own } else { block.write(&copy) });
                block.records.push(Record { index, due: generated.due.micros(), form, own, copy });
            }
        }
        block
    }

    fn write(&mut self, generated: &Generated<'_>) -> RecordBytes {
        let key_at = self.end();
        // Writing to memory cannot fail.
        let _ = write!(self.bytes, "{}", generated.event.user_id);
        let value_at = self.end();
        generated.write_value(&mut self.bytes);
        RecordBytes { key_at, value_at, end: self.end() }
    }

    /// Returns the user's ID in decimal digits.
    pub(super) fn key(&self, record: &Record) -> &[u8] {
        self.key_and_value(record.own).0
    }

    /// Returns the event's JSON, or the bytes into which its fault turns it.
    pub(super) fn value(&self, record: &Record) -> &[u8] {
        self.key_and_value(record.own).1
    }

    /// Returns key and value of the copy that follows a duplicated record.
    pub(super) fn copy(&self, record: &Record) -> (&[u8], &[u8]) {
        self.key_and_value(record.copy.unwrap_or(record.own))
    }

    fn key_and_value(&self, bytes: RecordBytes) -> (&[u8], &[u8]) {
        let RecordBytes { key_at, value_at, end } = bytes;
        (&self.bytes[key_at as usize..value_at as usize], &self.bytes[value_at as usize..end as usize])
    }

    /// Returns the length of the bytes so far. A block is far smaller than 4 GiB.
    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

fn is_duplicated(generated: &Generated<'_>) -> bool {
    matches!(generated.fault, Some(Fault::Duplicate | Fault::FarDuplicate(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use event_model::{Window, parse};

    use super::*;
    use crate::test_source::source;

    #[test]
    fn a_block_has_the_records_of_its_events() {
        let source = source(&["invalid=10%", "corrupt=10%", "duplicate=10%"]);
        let block = Block::generate(&source, 1_000..3_000, true);
        let mut records = block.records.iter().peekable();
        let (mut duplicated, mut far) = (0, 0);
        for index in 1_000..3_000 {
            let generated = source.make(index);
            let Some(record) = records.next_if(|record| record.index == index) else {
                assert!(matches!(generated.fault, Some(Fault::Invalid(_))), "{index}");
                continue;
            };
            assert_eq!(block.key(record), generated.event.user_id.to_string().as_bytes());
            assert_eq!(record.due, generated.due.micros());
            let read = parse(Some(block.value(record)), Some(generated.due), Window::default());
            match generated.fault {
                Some(Fault::Corrupt(_)) => assert!(record.form == RecordForm::Corrupt && read.is_err()),
                Some(Fault::Duplicate | Fault::FarDuplicate(_)) => {
                    let earlier = source.copy_after(&generated).unwrap();
                    let (key, value) = block.copy(record);
                    assert_eq!(key, earlier.event.user_id.to_string().as_bytes());
                    let copy = parse(Some(value), Some(generated.due), Window::default()).unwrap();
                    assert_eq!(copy.event_id, earlier.event.event_id);
                    far += u64::from(earlier.index < index);
                    assert_eq!((record.form, read.unwrap()), (RecordForm::Duplicated, generated.event));
                }
                _ => assert_eq!((record.form, read.unwrap()), (RecordForm::Plain, generated.event)),
            }
            duplicated += u64::from(record.form == RecordForm::Duplicated);
        }
        assert!(records.next().is_none());
        assert!(far > 50, "{far} of {duplicated}");
        let counts = block.counts.clone().into_counts();
        assert_eq!(counts.faults.duplicate, duplicated);
        assert_eq!(block.records.len() as u64, counts.outcomes.valid + counts.outcomes.corrupt);
        assert_eq!(counts, BlockCounts::of(&source, 1_000..3_000).into_counts());
    }

    #[test]
    fn without_records_a_block_only_counts() {
        let source = source(&["corrupt=10%"]);
        let block = Block::generate(&source, 0..100, false);
        assert!(block.records.is_empty());
        assert_eq!(block.counts.into_counts().outcomes.generated(), 100);
    }
}
