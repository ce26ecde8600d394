//! The batch that is being filled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use event_model::{Hour, ProductEvent, Reason, Timestamp};

use crate::dead_letter::DeadLetter;
use crate::ingest::batch::closed::{Batch, Part, PendingDeadLetter};
use crate::ingest::batch::rows::Rows;
use crate::kafka::fingerprint::RecordPosition;
use crate::observability::timing::{self, RecordTimes};

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
    last: Option<RecordPosition>,
    records: u64,
    rows: Rows,
    dead_letters: Vec<PendingDeadLetter>,
    hours: BTreeSet<Hour>,
    last_hour: Option<Hour>,
    times: RecordTimes,
}

impl OpenBatch {
    /// An empty batch, opened by a record that comes now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { parts: BTreeMap::new(), opened: now, fresh_since: timing::fresh_since(), records: 0, bytes: 0 }
    }

    /// Adds a valid event and when its record was sent.
    pub fn add_row(
        &mut self,
        partition: i32,
        epoch: u64,
        mark: RecordPosition,
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
    pub(crate) fn add_dead_letter(&mut self, partition: i32, epoch: u64, mark: RecordPosition, letter: DeadLetter) {
        self.bytes += letter.size();
        let index = self.records as u64;
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        // A timestamp that puts the event outside the window is no time of sending.
        let sent = letter.record_time.filter(|_| letter.reason_code != Reason::TimestampOutsideWindow.code());
        part.times.add(sent, None, self.fresh_since);
        part.dead_letters.push(PendingDeadLetter { letter, index });
    }

    /// Notes that a partition was read up to an offset, though what came last was no record for us.
    pub(crate) fn pass(&mut self, partition: i32, epoch: u64, next_offset: i64) {
        let part = Self::part(&mut self.parts, partition, epoch);
        part.next_offset = part.next_offset.max(next_offset);
    }

    fn part(parts: &mut BTreeMap<i32, OpenPart>, partition: i32, epoch: u64) -> &mut OpenPart {
        parts.entry(partition).or_insert_with(|| OpenPart { epoch, ..OpenPart::default() })
    }

    /// Takes a partition out again, with everything that it has here.
    pub(crate) fn drop_partition(&mut self, partition: i32) {
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
    pub(crate) fn due(&self, limits: &Limits) -> Instant {
        self.opened + limits.interval
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Closes it.
    #[must_use]
    pub fn close(self) -> Batch {
        let parts = self.parts.into_iter().map(|(partition, part)| (partition, part.close())).collect();
        Batch::new(parts, self.opened)
    }
}

impl OpenPart {
    fn read(&mut self, mark: RecordPosition) {
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
            likely_duplicates: Vec::new(),
            dead_letters: self.dead_letters,
            hours: self.hours,
            times: self.times,
        }
    }
}
