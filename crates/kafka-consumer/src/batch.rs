//! Records on their way into one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use event_model::{Hour, ProductEvent, Reason, Timestamp, read_copy_row};

use crate::ages::{self, RecordTimes};
use crate::dead_letter::DeadLetter;
use crate::key_order::KeyOrder;
use crate::recent_ids::RecentIds;
use crate::rows::Rows;

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
    /// The rows.
    pub rows: Rows,
    /// Which of the rows have an `event_id` that was seen of late, in their order.
    pub suspects: Vec<usize>,
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

/// A closed batch. What is tried again after an error is the same bytes.
#[derive(Debug)]
pub struct Batch {
    /// By partition, in their order, which is also the order in which their offsets are locked.
    pub parts: BTreeMap<i32, Part>,
    /// When its first record came.
    pub opened: Instant,
    in_key_order: OnceLock<KeyOrder>,
}

impl Batch {
    /// Records in all of it.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.parts.values().map(|part| part.records).sum()
    }

    /// Notes which rows have an id that was seen of late, and all of them as seen.
    pub fn suspect(&mut self, recent: &mut RecentIds) {
        for part in self.parts.values_mut() {
            let seen = part.rows.iter().enumerate().filter(|(_, row)| recent.insert(row.id));
            // Whatever is no row as we write them goes the short way, and PostgreSQL says so.
            part.suspects =
                seen.filter(|(_, row)| read_copy_row(row.bytes).is_some()).map(|(index, _)| index).collect();
        }
    }

    /// Its rows in the order of the key; put in order once, unless parts are left out.
    pub fn in_key_order(&self) -> &KeyOrder {
        self.in_key_order.get_or_init(|| KeyOrder::of(&self.parts))
    }

    /// Leaves parts out that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(i32, &Part) -> bool) {
        let before = self.parts.len();
        self.parts.retain(|partition, part| wanted(*partition, part));
        if self.parts.len() < before {
            self.in_key_order = OnceLock::new();
        }
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
    rows: Rows,
    dead_letters: Vec<Refused>,
    hours: BTreeSet<Hour>,
    last_hour: Option<Hour>,
    times: RecordTimes,
}

impl OpenBatch {
    /// An empty batch, opened by a record that comes now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { parts: BTreeMap::new(), opened: now, fresh_since: ages::fresh_since(), records: 0, bytes: 0 }
    }

    /// Adds a valid event and when its record was sent.
    pub fn add_row(
        &mut self,
        partition: i32,
        epoch: u64,
        mark: Mark,
        sent: Option<Timestamp>,
        event: &ProductEvent<'_>,
    ) {
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        part.times.add(sent, Some(event.event_timestamp), self.fresh_since);
        self.bytes += part.rows.add(mark.offset, event);
        let hour = event.event_timestamp.hour();
        if part.last_hour.replace(hour) != Some(hour) {
            part.hours.insert(hour);
        }
    }

    /// Adds a record that was refused.
    pub fn add_dead_letter(&mut self, partition: i32, epoch: u64, mark: Mark, letter: DeadLetter) {
        self.bytes += letter.size();
        let place = self.records as u64;
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        // A timestamp that puts the event outside the window is no time of sending.
        let sent = letter.record_time.filter(|_| letter.reason_code != Reason::TimestampOutsideWindow.code());
        part.times.add(sent, None, self.fresh_since);
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
            self.bytes -= (part.rows.size() + letters).min(self.bytes);
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
        Batch { parts, opened: self.opened, in_key_order: OnceLock::new() }
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
            rows: self.rows,
            suspects: Vec::new(),
            dead_letters: self.dead_letters,
            hours: self.hours,
            times: self.times,
        }
    }
}
