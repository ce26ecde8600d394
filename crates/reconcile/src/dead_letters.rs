//! The group's dead letters, by the positions of their records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use pipeline_runtime::kafka::Watermarks;
use xxhash_rust::xxh3::xxh3_64;

/// A position in the topic: partition and offset.
pub(crate) type RecordIndex = (i32, i64);

/// The compared properties of a dead letter.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// XXH3 of the payload. `None` if the dead letter was discarded or its record is a tombstone.
    payload: Option<u64>,
    discarded: bool,
    /// True if the dead letter was replayed.
    pub(crate) replayed: bool,
    has_record: AtomicBool,
}

/// All dead letters of a group in one topic.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters(HashMap<RecordIndex, DeadLetter>);

impl DeadLetter {
    pub(crate) fn new(payload: Option<&[u8]>, replayed: bool, discarded: bool) -> Self {
        Self { payload: payload.map(xxh3_64), discarded, replayed, has_record: AtomicBool::new(false) }
    }

    /// Returns true if the payload is the record's. The payload of a discarded dead letter is deleted and not compared.
    pub(crate) fn is_of(&self, payload: Option<&[u8]>) -> bool {
        self.discarded || self.payload == payload.map(xxh3_64)
    }
}

impl DeadLetters {
    pub(crate) fn add(&mut self, position: RecordIndex, letter: DeadLetter) {
        self.0.insert(position, letter);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns the dead letter of a record, and marks that the record exists.
    pub(crate) fn find(&self, position: RecordIndex) -> Option<&DeadLetter> {
        let letter = self.0.get(&position)?;
        letter.has_record.store(true, Ordering::Relaxed);
        Some(letter)
    }

    /// Returns the positions of dead letters without a record, in ascending order. Offsets outside of the partition's
    /// span are left out, since retention may have removed their records.
    pub(crate) fn without_record(&self, span: impl Fn(i32) -> Option<Watermarks>) -> Vec<RecordIndex> {
        let within = |(partition, offset): &RecordIndex| {
            span(*partition).is_some_and(|span| (span.low..span.high).contains(offset))
        };
        let without_record =
            self.0.iter().filter(|(position, letter)| !letter.has_record.load(Ordering::Relaxed) && within(position));
        let mut indices: Vec<RecordIndex> = without_record.map(|(position, _)| *position).collect();
        indices.sort_unstable();
        indices
    }
}
