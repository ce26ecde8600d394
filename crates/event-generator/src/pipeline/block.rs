//! A run of events, made and validated, ready to be sent.

use std::io::Write;
use std::ops::Range;

use workload::{Fault, Generated, Source};

use crate::pipeline::block_counts::BlockCounts;
use crate::validate::{Verdict, judge};

/// What the events of some neighbouring indices bring to Kafka, in the order of their indices.
#[derive(Debug)]
pub struct Block {
    /// The indices.
    pub range: Range<u64>,
    /// What is to be sent; an event that is not valid has no record.
    pub records: Vec<Record>,
    /// What they are.
    pub counts: BlockCounts,
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
}

/// One event's record.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The event's index.
    pub index: u64,
    /// When it is due, in microseconds since the epoch.
    pub due: i64,
    /// How it is sent.
    pub form: Form,
    own: Place,
    copy: Option<Place>,
}

/// Where a key and a value are.
#[derive(Clone, Copy, Debug)]
struct Place {
    key_at: u32,
    value_at: u32,
    end: u32,
}

/// How a record is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Once,
    /// With a copy right after it: of itself, or of an earlier event.
    Twice,
    /// With headers that name its run and its index, which cannot be read from its bytes.
    Marked,
}

/// Room for a key and a usual value.
const RECORD_BYTES: usize = 240;

impl Block {
    /// Makes the events of a range. Without `records` they are only judged and counted.
    #[must_use]
    pub fn make(source: &Source, range: Range<u64>, records: bool) -> Self {
        let len = if records { usize::try_from(range.end - range.start).unwrap_or(0) } else { 0 };
        let mut block = Self {
            range: range.clone(),
            records: Vec::with_capacity(len),
            counts: BlockCounts::default(),
            bytes: Vec::with_capacity(len * RECORD_BYTES),
        };
        for index in range {
            let generated = source.make(index);
            let verdict = judge(&generated);
            block.counts.add(&generated, &verdict);
            let form = match verdict {
                Verdict::Invalid { .. } => continue,
                Verdict::Corrupt => Form::Marked,
                Verdict::Valid if is_copied(&generated) => Form::Twice,
                Verdict::Valid => Form::Once,
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

    fn write(&mut self, generated: &Generated<'_>) -> Place {
        let key_at = self.place();
        // Writing to memory cannot fail.
        let _ = write!(self.bytes, "{}", generated.event.user_id);
        let value_at = self.place();
        generated.write_value(&mut self.bytes);
        Place { key_at, value_at, end: self.place() }
    }

    /// The user's id in decimal digits.
    #[must_use]
    pub fn key(&self, record: &Record) -> &[u8] {
        self.at(record.own).0
    }

    /// The event's JSON, or what its fault makes of it.
    #[must_use]
    pub fn value(&self, record: &Record) -> &[u8] {
        self.at(record.own).1
    }

    /// Key and value of the copy that comes after the record, where its form has one.
    #[must_use]
    pub fn copy(&self, record: &Record) -> (&[u8], &[u8]) {
        self.at(record.copy.unwrap_or(record.own))
    }

    fn at(&self, place: Place) -> (&[u8], &[u8]) {
        let Place { key_at, value_at, end } = place;
        (&self.bytes[key_at as usize..value_at as usize], &self.bytes[value_at as usize..end as usize])
    }

    /// Blocks are a few thousand events of a few hundred bytes.
    fn place(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

fn is_copied(generated: &Generated<'_>) -> bool {
    matches!(generated.fault, Some(Fault::Duplicate | Fault::FarDuplicate(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use event_model::{Window, parse};

    use super::*;
    use crate::pipeline::block_counts::tests::source;

    #[test]
    fn a_block_has_what_its_events_bring() {
        let source = source(&["invalid=10%", "corrupt=10%", "duplicate=10%"]);
        let block = Block::make(&source, 1_000..3_000, true);
        let mut records = block.records.iter().peekable();
        let (mut twice, mut far) = (0, 0);
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
                Some(Fault::Corrupt(_)) => assert!(record.form == Form::Marked && read.is_err()),
                Some(Fault::Duplicate | Fault::FarDuplicate(_)) => {
                    let earlier = source.copy_after(&generated).unwrap();
                    let (key, value) = block.copy(record);
                    assert_eq!(key, earlier.event.user_id.to_string().as_bytes());
                    let copy = parse(Some(value), Some(generated.due), Window::default()).unwrap();
                    assert_eq!(copy.event_id, earlier.event.event_id);
                    far += u64::from(earlier.index < index);
                    assert_eq!((record.form, read.unwrap()), (Form::Twice, generated.event));
                }
                _ => assert_eq!((record.form, read.unwrap()), (Form::Once, generated.event)),
            }
            twice += u64::from(record.form == Form::Twice);
        }
        assert!(records.next().is_none());
        assert!(far > 50, "{far} of {twice}");
        let counts = block.counts.clone().into_counts();
        assert_eq!(counts.faults.duplicate, twice);
        assert_eq!(block.records.len() as u64, counts.outcomes.valid + counts.outcomes.corrupt);
        assert_eq!(counts, BlockCounts::of(&source, 1_000..3_000).into_counts());
    }

    #[test]
    fn without_records_it_is_only_counted() {
        let source = source(&["corrupt=10%"]);
        let block = Block::make(&source, 0..100, false);
        assert!(block.records.is_empty());
        assert_eq!(block.counts.into_counts().outcomes.generated(), 100);
    }
}
