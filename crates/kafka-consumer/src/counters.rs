//! What this process has done so far. What must survive it stands in PostgreSQL.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that were committed, whatever became of them.
    pub records: u64,
    /// New rows.
    pub rows: u64,
    /// Records whose `event_id` was there already.
    pub duplicates: u64,
    /// Those of them whose content is not that of the row.
    pub duplicates_differing: u64,
    /// Records that are no valid event, or whose row PostgreSQL refuses.
    pub dead_letters: u64,
    /// Rows of days that retention has taken.
    pub expired: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.rows += other.rows;
        self.duplicates += other.duplicates;
        self.duplicates_differing += other.duplicates_differing;
        self.dead_letters += other.dead_letters;
        self.expired += other.expired;
    }
}

/// The running totals of the process.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    rows: AtomicU64,
    duplicates: AtomicU64,
    duplicates_differing: AtomicU64,
    dead_letters: AtomicU64,
    expired: AtomicU64,
    batches: AtomicU64,
    retries: AtomicU64,
    span: Mutex<Option<(Instant, Instant)>>,
}

impl Counters {
    /// Adds a batch that is committed now.
    pub fn add_batch(&self, tally: Tally, opened: Instant) {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let first = span.map_or(opened, |(first, _)| first.min(opened));
        *span = Some((first, Instant::now()));
        drop(span);
        self.records.fetch_add(tally.records, Ordering::Relaxed);
        self.rows.fetch_add(tally.rows, Ordering::Relaxed);
        self.duplicates.fetch_add(tally.duplicates, Ordering::Relaxed);
        self.duplicates_differing.fetch_add(tally.duplicates_differing, Ordering::Relaxed);
        self.dead_letters.fetch_add(tally.dead_letters, Ordering::Relaxed);
        self.expired.fetch_add(tally.expired, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds an attempt that PostgreSQL did not let through.
    pub fn add_retry(&self, _sqlstate: Option<&str>) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of the records so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            records: self.records.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            duplicates_differing: self.duplicates_differing.load(Ordering::Relaxed),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
        }
    }

    /// From the first record to the last commit.
    #[must_use]
    pub fn reading(&self) -> Duration {
        let span = *self.span.lock().unwrap_or_else(PoisonError::into_inner);
        span.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// Committed batches.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Attempts that were made again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}
