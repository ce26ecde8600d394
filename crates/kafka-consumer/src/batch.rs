//! Records on their way into one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_model::{Hour, ProductEvent, Timestamp};

use crate::ages::{self, RecordTimes};
use crate::dead_letter::DeadLetter;

/// When a batch is closed: as soon as one of these is reached, or when nothing more comes and its writer is idle.
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
    /// Where the partition goes on after this.
    pub next_offset: i64,
    /// The last record; none where only records were passed that are no events, such as the marks of transactions.
    pub last: Option<Mark>,
    /// Records: rows and dead letters.
    pub records: u64,
    /// Rows whose `event_id` was not seen of late.
    pub rows: Rows,
    /// Rows whose `event_id` was: they take the slow way in, so that the others need not.
    pub suspects: Rows,
    /// The suspects once more, as the members of a JSON array.
    pub suspects_json: Vec<u8>,
    /// The records that will not become rows.
    pub dead_letters: Vec<Refused>,
    /// The hours that the rows' events fall in.
    pub hours: BTreeSet<Hour>,
    /// When the records were sent and their events happened.
    pub times: RecordTimes,
}

/// A dead letter and which record of its batch it was, counted from 0 over all partitions.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What is kept.
    pub letter: DeadLetter,
    /// The record's place in the batch.
    pub place: u64,
}

/// Rows in PostgreSQL's binary COPY form, without header and trailer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The rows' bytes.
    pub bytes: Bytes,
    /// Each row's record in its partition.
    pub offsets: Vec<i64>,
}

impl Rows {
    /// How many rows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.offsets.len() as u64
    }
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
        self.rows.count() + self.suspects.count()
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
    fresh_since: Timestamp,
    records: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct OpenPart {
    epoch: u64,
    next_offset: i64,
    last: Option<Mark>,
    records: u64,
    rows: OpenRows,
    suspects: OpenRows,
    suspects_json: Vec<u8>,
    dead_letters: Vec<Refused>,
    hours: BTreeSet<Hour>,
    last_hour: Option<Hour>,
    times: RecordTimes,
}

#[derive(Debug, Default)]
struct OpenRows {
    bytes: Vec<u8>,
    offsets: Vec<i64>,
}

impl OpenRows {
    fn add(&mut self, offset: i64, event: &ProductEvent<'_>) -> usize {
        let before = self.bytes.len();
        event.write_copy_row(&mut self.bytes);
        self.offsets.push(offset);
        self.bytes.len() - before
    }

    fn close(self) -> Rows {
        Rows { bytes: Bytes::from(self.bytes), offsets: self.offsets }
    }
}

impl OpenBatch {
    /// An empty batch, opened by a record that comes now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { parts: BTreeMap::new(), opened: now, fresh_since: ages::fresh_since(), records: 0, bytes: 0 }
    }

    /// Adds a valid event and when its record was sent. A suspect is one whose `event_id` was seen of late.
    pub fn add_row(
        &mut self,
        partition: i32,
        epoch: u64,
        mark: Mark,
        sent: Option<Timestamp>,
        event: &ProductEvent<'_>,
        suspect: bool,
    ) {
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        part.times.add(sent, Some(event.event_timestamp), self.fresh_since);
        let size = if suspect {
            if !part.suspects_json.is_empty() {
                part.suspects_json.push(b',');
            }
            event.write_json(&mut part.suspects_json);
            part.suspects.add(mark.offset, event)
        } else {
            part.rows.add(mark.offset, event)
        };
        let hour = event.event_timestamp.hour();
        if part.last_hour.replace(hour) != Some(hour) {
            part.hours.insert(hour);
        }
        self.bytes += size;
    }

    /// Adds a record that was refused.
    pub fn add_dead_letter(&mut self, partition: i32, epoch: u64, mark: Mark, letter: DeadLetter) {
        self.bytes += letter.size();
        let place = self.records as u64;
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        part.times.add(letter.record_time, None, self.fresh_since);
        part.dead_letters.push(Refused { letter, place });
    }

    /// Notes that a partition was read up to an offset, though what came last was no record for us.
    pub fn pass(&mut self, partition: i32, epoch: u64, next_offset: i64) {
        let part = Self::part(&mut self.parts, partition, epoch);
        part.next_offset = part.next_offset.max(next_offset);
    }

    fn part(parts: &mut BTreeMap<i32, OpenPart>, partition: i32, epoch: u64) -> &mut OpenPart {
        parts.entry(partition).or_insert_with(|| OpenPart { epoch, ..OpenPart::default() })
    }

    /// Takes a partition out again, with everything that it has here.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some(part) = self.parts.remove(&partition) {
            self.records -= usize::try_from(part.records).unwrap_or(usize::MAX).min(self.records);
            let letters: usize = part.dead_letters.iter().map(|refused| refused.letter.size()).sum();
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
        let parts = self.parts.into_iter().map(|(partition, part)| (partition, part.close())).collect();
        Batch { parts, opened: self.opened }
    }
}

impl OpenPart {
    fn read(&mut self, mark: Mark) {
        self.last = Some(mark);
        self.next_offset = mark.offset + 1;
        self.records += 1;
    }

    fn close(self) -> Part {
        Part {
            epoch: self.epoch,
            next_offset: self.next_offset,
            last: self.last,
            records: self.records,
            rows: self.rows.close(),
            suspects: self.suspects.close(),
            suspects_json: self.suspects_json,
            dead_letters: self.dead_letters,
            hours: self.hours,
            times: self.times,
        }
    }
}
