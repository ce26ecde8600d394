//! Running totals of this process. Counts that must survive it are stored in PostgreSQL.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{Reason, Timestamp};
use pipeline_runtime::metrics::Histogram;

use crate::dead_letter::REFUSED_BY_POSTGRES;
use crate::observability::record_counts::RecordCounts;
use crate::observability::timing;
use crate::observability::timing::RecordTimes;

/// Upper bounds of latencies in seconds: four to ten steps per decade up to 10 s, where they matter, then fewer.
const LATENCY_BOUNDS: &[f64] = &[
    0.002, 0.005, 0.01, 0.016, 0.02, 0.025, 0.032, 0.04, 0.05, 0.063, 0.08, 0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4,
    0.5, 0.63, 0.8, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 20.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0,
];
const COMMIT_BOUNDS: &[f64] = &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const ROWS_BOUNDS: &[f64] = &[1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0, 1_000_000.0];

/// Running totals of the process. They are updated per batch, never per record.
#[derive(Debug)]
pub(crate) struct Counters {
    totals: Mutex<Totals>,
    /// Time from a record's timestamp to its commit, in seconds.
    pub(crate) ingest_latency: Histogram,
    /// Time from an event's timestamp to its commit, in seconds, for events that were younger than a minute when sent.
    pub(crate) event_latency: Histogram,
    /// Time from the writer's first attempt at a batch to its commit, in seconds.
    pub(crate) batch_commit: Histogram,
    /// Number of new rows per batch.
    pub(crate) batch_rows: Histogram,
}

/// Totals that one lock guards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Counts by partition since the process started, those of partitions that it no longer reads included.
    pub(crate) partitions: BTreeMap<i32, Partition>,
    /// Number of dead letters by reason code.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// Number of retries by SQLSTATE; `none` without an answer or a connection.
    pub(crate) retries: BTreeMap<String, u64>,
    /// Number of committed batches.
    pub(crate) batches: u64,
    /// Time of the first record, and of the last commit.
    span: Option<(Instant, Instant)>,
}

/// Counts of a partition in this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Partition {
    /// Counts of its records by outcome.
    pub(crate) tally: RecordCounts,
    /// Next offset, while this consumer owns the partition.
    pub(crate) next_offset: Option<i64>,
    /// Time of its last commit.
    pub(crate) last_commit: Option<Instant>,
}

/// Part of a committed batch that concerns the counters.
#[derive(Debug)]
pub(crate) struct CommittedPart<'a> {
    pub(crate) partition: i32,
    pub(crate) next_offset: i64,
    /// Counts of its records by outcome.
    pub(crate) counts: RecordCounts,
    /// Timestamps of its records and events.
    pub(crate) times: &'a RecordTimes,
    /// Reason codes of the records that failed validation.
    pub(crate) reason_codes: Vec<&'static str>,
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
    /// Marks a partition as owned by a writer.
    pub(crate) fn owns(&self, partition: i32, next_offset: i64) {
        self.lock().partitions.entry(partition).or_default().next_offset = Some(next_offset);
    }

    /// Marks a partition as no longer owned.
    pub(crate) fn release(&self, partition: i32) {
        if let Some(one) = self.lock().partitions.get_mut(&partition) {
            one.next_offset = None;
        }
    }

    /// Adds a batch that was committed now. `opened` is the time of its first record, `took` the time from the first
    /// attempt to the commit.
    pub(crate) fn add_batch(&self, parts: &[CommittedPart<'_>], opened: Instant, took: Duration) {
        self.observe_ages(parts, timing::now());
        let rows: u64 = parts.iter().map(|part| part.counts.rows).sum();
        #[expect(clippy::cast_precision_loss, reason = "a batch has few rows")]
        self.batch_rows.observe(rows as f64, 1);
        self.batch_commit.observe(took.as_secs_f64(), 1);
        let now = Instant::now();
        let mut totals = self.lock();
        totals.batches += 1;
        let first = totals.span.map_or(opened, |(first, _)| first.min(opened));
        totals.span = Some((first, now));
        for part in parts {
            let one = totals.partitions.entry(part.partition).or_default();
            one.tally += part.counts;
            one.next_offset = Some(part.next_offset);
            one.last_commit = Some(now);
            for code in &part.reason_codes {
                *totals.reasons.entry(code).or_default() += 1;
            }
            let by_postgres = part.counts.dead_letters.saturating_sub(part.reason_codes.len() as u64);
            *totals.reasons.entry(REFUSED_BY_POSTGRES).or_default() += by_postgres;
        }
    }

    fn observe_ages(&self, parts: &[CommittedPart<'_>], now: Timestamp) {
        for part in parts {
            for (histogram, times) in
                [(&self.ingest_latency, &part.times.sent), (&self.event_latency, &part.times.happened)]
            {
                times.ages(now).for_each(|(seconds, count)| histogram.observe(seconds, count));
            }
        }
    }

    /// Adds a retry after an error of PostgreSQL.
    pub(crate) fn add_retry(&self, sqlstate: Option<&str>) {
        *self.lock().retries.entry(sqlstate.unwrap_or("none").to_owned()).or_default() += 1;
    }

    /// Returns the counts of records by outcome, over all partitions.
    #[must_use]
    pub(crate) fn tally(&self) -> RecordCounts {
        self.lock().tally()
    }

    /// Returns a copy of the totals.
    #[must_use]
    pub(crate) fn totals(&self) -> Totals {
        self.lock().clone()
    }

    /// Returns the time from the first record to the last commit.
    #[must_use]
    pub(crate) fn reading(&self) -> Duration {
        self.lock().span.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// Returns the number of committed batches.
    #[must_use]
    pub(crate) fn batches(&self) -> u64 {
        self.lock().batches
    }

    /// Returns the number of retries.
    #[must_use]
    pub(crate) fn retries(&self) -> u64 {
        self.lock().retries.values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    /// Returns the counts over all partitions.
    #[must_use]
    pub(crate) fn tally(&self) -> RecordCounts {
        self.partitions.values().fold(RecordCounts::default(), |mut all, one| {
            all += one.tally;
            all
        })
    }
}
