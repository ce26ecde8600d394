//! What this process has done so far. What must survive it stands in PostgreSQL.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{Reason, Timestamp};
use pipeline_runtime::metrics::Histogram;

use crate::ages;
use crate::batch::Batch;
use crate::dead_letter::REFUSED_BY_POSTGRES;

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
    /// Rows that a trigger suppressed or redirected.
    pub suppressed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.rows += other.rows;
        self.duplicates += other.duplicates;
        self.duplicates_differing += other.duplicates_differing;
        self.dead_letters += other.dead_letters;
        self.expired += other.expired;
        self.suppressed += other.suppressed;
    }
}

/// Upper bounds of latencies in seconds: four to ten steps for each tenfold up to 10 s, where they matter, then fewer.
const LATENCY_BOUNDS: &[f64] = &[
    0.002, 0.005, 0.01, 0.016, 0.02, 0.025, 0.032, 0.04, 0.05, 0.063, 0.08, 0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4,
    0.5, 0.63, 0.8, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 20.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0,
];
const COMMIT_BOUNDS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const ROWS_BOUNDS: &[f64] = &[1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0, 1_000_000.0];

/// The running totals of the process. Nothing here is touched for each record.
#[derive(Debug)]
pub struct Counters {
    totals: Mutex<Totals>,
    /// From a record's own timestamp to its commit, in seconds.
    pub ingest_latency: Histogram,
    /// From an event's timestamp to its commit, in seconds, where it was younger than a minute when it was sent.
    pub event_latency: Histogram,
    /// How long batches took from the writer's first attempt to the commit, in seconds.
    pub batch_commit: Histogram,
    /// New rows of each batch.
    pub batch_rows: Histogram,
}

/// What is counted by something.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By partition: all that this process has read since it started, also of those that it no longer reads.
    pub partitions: BTreeMap<i32, Partition>,
    /// Dead letters by reason code.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Attempts that were made again, by SQLSTATE; `none` where there was no answer or no connection.
    pub retries: BTreeMap<String, u64>,
    /// Batches that were committed.
    pub batches: u64,
    /// When the first record came and the last batch was committed.
    span: Option<(Instant, Instant)>,
}

/// A partition, as this process knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Partition {
    /// What became of its records.
    pub tally: Tally,
    /// The offset that comes next, while the partition is this consumer's.
    pub next_offset: Option<i64>,
    /// When something of it was committed last.
    pub last_commit: Option<Instant>,
}

impl Default for Counters {
    fn default() -> Self {
        let reasons = Reason::ALL.iter().map(|reason| reason.code()).chain([REFUSED_BY_POSTGRES]);
        let totals = Totals { reasons: reasons.map(|code| (code, 0)).collect(), ..Totals::default() };
        Self {
            totals: Mutex::new(totals),
            ingest_latency: Histogram::new(LATENCY_BOUNDS),
            event_latency: Histogram::new(LATENCY_BOUNDS),
            batch_commit: Histogram::new(COMMIT_BOUNDS),
            batch_rows: Histogram::new(ROWS_BOUNDS),
        }
    }
}

impl Counters {
    /// A writer owns a partition from here on.
    pub fn owns(&self, partition: i32, next_offset: i64) {
        self.lock().partitions.entry(partition).or_default().next_offset = Some(next_offset);
    }

    /// A writer owns a partition no longer.
    pub fn lets_go(&self, partition: i32) {
        if let Some(one) = self.lock().partitions.get_mut(&partition) {
            one.next_offset = None;
        }
    }

    /// Adds a batch that was committed now, after so long; `tallies` says what became of each partition's records.
    pub fn add_batch(&self, batch: &Batch, tallies: &BTreeMap<i32, Tally>, took: Duration) {
        self.observe_ages(batch, ages::now());
        let rows: u64 = tallies.values().map(|tally| tally.rows).sum();
        #[expect(clippy::cast_precision_loss, reason = "a batch has few rows")]
        self.batch_rows.observe(rows as f64, 1);
        self.batch_commit.observe(took.as_secs_f64(), 1);
        let now = Instant::now();
        let mut totals = self.lock();
        totals.batches += 1;
        let first = totals.span.map_or(batch.opened, |(first, _)| first.min(batch.opened));
        totals.span = Some((first, now));
        for (partition, part) in &batch.parts {
            let tally = tallies.get(partition).copied().unwrap_or_default();
            let one = totals.partitions.entry(*partition).or_default();
            one.tally += tally;
            one.next_offset = Some(part.next_offset);
            one.last_commit = Some(now);
            for refused in &part.dead_letters {
                *totals.reasons.entry(refused.letter.reason_code).or_default() += 1;
            }
            let by_postgres = tally.dead_letters.saturating_sub(part.dead_letters.len() as u64);
            *totals.reasons.entry(REFUSED_BY_POSTGRES).or_default() += by_postgres;
        }
    }

    fn observe_ages(&self, batch: &Batch, now: Timestamp) {
        for part in batch.parts.values() {
            for (histogram, times) in
                [(&self.ingest_latency, &part.times.sent), (&self.event_latency, &part.times.happened)]
            {
                times.ages(now).for_each(|(seconds, count)| histogram.observe(seconds, count));
            }
        }
    }

    /// Adds an attempt that PostgreSQL did not let through.
    pub fn add_retry(&self, sqlstate: Option<&str>) {
        *self.lock().retries.entry(sqlstate.unwrap_or("none").to_owned()).or_default() += 1;
    }

    /// What became of the records so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().tally()
    }

    /// Everything that is counted by something, as it is now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    /// From the first record to the last commit.
    #[must_use]
    pub fn reading(&self) -> Duration {
        self.lock().span.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// Committed batches.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.lock().batches
    }

    /// Attempts that were made again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.lock().retries.values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    /// Over all partitions.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.partitions.values().fold(Tally::default(), |mut all, one| {
            all += one.tally;
            all
        })
    }
}
