//! Batches that are being filled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use event_model::{Hour, ProductEvent, Reason, Timestamp};
use ingest_protocol::position::RecordPosition;

use crate::dead_letter::DeadLetter;
use crate::ingest::batch::closed::{Batch, Part, PendingDeadLetter};
use crate::ingest::batch::rows::Rows;
use crate::observability::timing::{self, RecordTimes};

/// Limits of a batch. It is closed when it reaches one of them, or earlier if no record is available and its writer is
/// idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of records.
    pub rows: usize,
    /// Size of encoded rows and dead letters, in bytes.
    pub bytes: usize,
    /// Time since the first record.
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
    /// Returns an empty batch whose first record arrives now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { parts: BTreeMap::new(), opened: now, fresh_since: timing::fresh_since(), records: 0, bytes: 0 }
    }

    /// Adds a valid event. `sent` is the timestamp of its record.
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

    /// Adds a rejected record.
    pub(crate) fn add_dead_letter(&mut self, partition: i32, epoch: u64, mark: RecordPosition, letter: DeadLetter) {
        self.bytes += letter.size();
        let index = self.records as u64;
        self.records += 1;
        let part = Self::part(&mut self.parts, partition, epoch);
        part.read(mark);
        // A record timestamp too far from the event's own is not a plausible time of sending.
        let sent = letter.record_time.filter(|_| letter.reason_code != Reason::TimestampOutsideWindow.code());
        part.times.add(sent, None, self.fresh_since);
        part.dead_letters.push(PendingDeadLetter { letter, index });
    }

    /// Moves the offset of a partition past log entries that are not delivered as records, such as transaction markers.
    pub fn pass(&mut self, partition: i32, epoch: u64, next_offset: i64) {
        let part = Self::part(&mut self.parts, partition, epoch);
        part.next_offset = part.next_offset.max(next_offset);
    }

    fn part(parts: &mut BTreeMap<i32, OpenPart>, partition: i32, epoch: u64) -> &mut OpenPart {
        parts.entry(partition).or_insert_with(|| OpenPart { epoch, ..OpenPart::default() })
    }

    /// Removes a partition with all its records.
    pub(crate) fn drop_partition(&mut self, partition: i32) {
        if let Some(part) = self.parts.remove(&partition) {
            self.records -= usize::try_from(part.records).unwrap_or(usize::MAX).min(self.records);
            let letters: usize = part.dead_letters.iter().map(|refused| refused.letter.size()).sum();
            self.bytes -= (part.rows.size() + letters).min(self.bytes);
        }
    }

    /// Returns true if the batch has reached its maximum number of records or bytes.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.records >= limits.rows || self.bytes >= limits.bytes
    }

    /// Returns the time by which the batch must be closed.
    #[must_use]
    pub(crate) fn due(&self, limits: &Limits) -> Instant {
        self.opened + limits.interval
    }

    /// Returns true if the batch has no parts.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Closes the batch.
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
