//! Records on their way into one transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_model::{Hour, ProductEvent};
use uuid::Uuid;

use crate::dead_letter::DeadLetter;

/// When a batch is closed: as soon as one of these is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records.
    pub rows: usize,
    /// Bytes of encoded rows and dead letters.
    pub bytes: usize,
    /// Time since its first record.
    pub interval: Duration,
}

/// Where a partition stands after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The record's offset.
    pub offset: i64,
    /// Its fingerprint.
    pub fingerprint: i64,
}

/// What a batch has of one Kafka partition: rows in COPY form and dead letters, in the order of the records.
#[derive(Debug)]
pub struct Part {
    /// The assignment under which the records were read.
    pub epoch: u64,
    /// The last record.
    pub last: Mark,
    /// Records: rows and dead letters.
    pub records: u64,
    /// Rows whose `event_id` was not seen before in this batch.
    pub rows: Rows,
    /// Rows whose `event_id` was: they take the slow way in, so that the others need not.
    pub suspects: Rows,
    /// The records that will not become rows.
    pub dead_letters: Vec<DeadLetter>,
    /// The hours that the rows' events fall in.
    pub hours: BTreeSet<Hour>,
}

/// Rows in PostgreSQL's binary COPY form, without header and trailer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The rows' bytes.
    pub bytes: Bytes,
    /// How many rows.
    pub count: u64,
}

/// A closed batch. What is tried again after an error is the same bytes.
#[derive(Debug)]
pub struct Batch {
    /// By partition, in their order, which is also the order in which their offsets are locked.
    pub parts: BTreeMap<i32, Part>,
    /// When its first record came.
    pub opened: Instant,
}

impl Part {
    /// All rows.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows.count + self.suspects.count
    }
}

impl Batch {
    /// Records in all of it.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.parts.values().map(|part| part.records).sum()
    }

    /// The hours that any row falls in.
    #[must_use]
    pub fn hours(&self) -> BTreeSet<Hour> {
        self.parts.values().flat_map(|part| part.hours.iter().copied()).collect()
    }
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct OpenBatch {
    parts: BTreeMap<i32, OpenPart>,
    opened: Instant,
    records: usize,
    bytes: usize,
}

#[derive(Debug)]
struct OpenPart {
    epoch: u64,
    last: Mark,
    records: u64,
    rows: OpenRows,
    suspects: OpenRows,
    ids: HashSet<Uuid, BuildHasherDefault<IdHasher>>,
    dead_letters: Vec<DeadLetter>,
    hours: BTreeSet<Hour>,
    last_hour: Option<Hour>,
}

#[derive(Debug, Default)]
struct OpenRows {
    bytes: Vec<u8>,
    count: u64,
}

impl OpenRows {
    fn close(self) -> Rows {
        Rows { bytes: Bytes::from(self.bytes), count: self.count }
    }
}

/// Hashes a UUID by one multiplication. Ids that collide on purpose only slow their own batch down.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl OpenBatch {
    /// An empty batch, opened by a record that comes now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { parts: BTreeMap::new(), opened: now, records: 0, bytes: 0 }
    }

    /// Adds a valid event.
    pub fn add_row(&mut self, partition: i32, epoch: u64, mark: Mark, event: &ProductEvent<'_>) {
        let part = Self::part(&mut self.parts, partition, epoch, mark);
        let rows = if part.ids.insert(event.event_id) { &mut part.rows } else { &mut part.suspects };
        let before = rows.bytes.len();
        event.write_copy_row(&mut rows.bytes);
        rows.count += 1;
        self.bytes += rows.bytes.len() - before;
        let hour = event.event_timestamp.hour();
        if part.last_hour.replace(hour) != Some(hour) {
            part.hours.insert(hour);
        }
        self.records += 1;
    }

    /// Adds a record that was refused.
    pub fn add_dead_letter(&mut self, partition: i32, epoch: u64, mark: Mark, letter: DeadLetter) {
        self.bytes += letter.size();
        self.records += 1;
        Self::part(&mut self.parts, partition, epoch, mark).dead_letters.push(letter);
    }

    fn part(parts: &mut BTreeMap<i32, OpenPart>, partition: i32, epoch: u64, last: Mark) -> &mut OpenPart {
        let part = parts.entry(partition).or_insert_with(|| OpenPart {
            epoch,
            last,
            records: 0,
            rows: OpenRows::default(),
            suspects: OpenRows::default(),
            ids: HashSet::default(),
            dead_letters: Vec::new(),
            hours: BTreeSet::new(),
            last_hour: None,
        });
        part.last = last;
        part.records += 1;
        part
    }

    /// Takes a partition out again, with everything that it has here.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some(part) = self.parts.remove(&partition) {
            self.records -= usize::try_from(part.records).unwrap_or(usize::MAX).min(self.records);
            let letters: usize = part.dead_letters.iter().map(DeadLetter::size).sum();
            self.bytes -= (part.rows.bytes.len() + part.suspects.bytes.len() + letters).min(self.bytes);
        }
    }

    /// Whether it has as much as a batch may have.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.records >= limits.rows || self.bytes >= limits.bytes
    }

    /// When it has to be closed at the latest.
    #[must_use]
    pub fn due(&self, limits: &Limits) -> Instant {
        self.opened + limits.interval
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Closes it.
    #[must_use]
    pub fn close(self) -> Batch {
        let close = |part: OpenPart| Part {
            epoch: part.epoch,
            last: part.last,
            records: part.records,
            rows: part.rows.close(),
            suspects: part.suspects.close(),
            dead_letters: part.dead_letters,
            hours: part.hours,
        };
        let parts = self.parts.into_iter().map(|(partition, part)| (partition, close(part))).collect();
        Batch { parts, opened: self.opened }
    }
}
