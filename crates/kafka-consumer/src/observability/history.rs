//! Figures of the last ten minutes, second by second, for the page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipeline_runtime::metrics::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::observability::counters::{Counters, Totals};
use crate::observability::health::Health;
use crate::observability::lag::PartitionEnds;
use crate::observability::record_counts::RecordCounts;
use crate::observability::timing;

/// Number of seconds kept.
pub(crate) const KEPT: usize = 600;
/// Number of seconds in the latency of the last minute.
const MINUTE: usize = 60;

/// Figures of one second. The counts cover the records committed in it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Second {
    /// End of the second, in milliseconds since 1970.
    pub(crate) at: i64,
    /// Number of records.
    pub(crate) records: u64,
    /// Number of new rows.
    pub(crate) rows: u64,
    /// Number of duplicates.
    pub(crate) duplicates: u64,
    /// Number of dead letters.
    pub(crate) dead_letters: u64,
    /// Lag at its end, in offsets; `None` while Kafka does not answer.
    pub(crate) lag: Option<u64>,
    /// Median of the time from a record's timestamp to its commit, in seconds; `None` without records.
    pub(crate) p50: Option<f64>,
    /// 99th percentile of the same time.
    pub(crate) p99: Option<f64>,
}

/// Quantiles of a latency in seconds; `None` without samples.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// Median.
    pub(crate) p50: Option<f64>,
    /// 99th percentile.
    pub(crate) p99: Option<f64>,
}

/// The last seconds, up to [`KEPT`] of them.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    seconds: VecDeque<Second>,
    last: RecordCounts,
    ingest: Window,
    event: Window,
}

/// Increments of a histogram in each second of the last minute.
#[derive(Debug, Default)]
struct Window {
    last: Vec<u64>,
    added: VecDeque<Vec<u64>>,
}

impl History {
    /// Takes a sample every second, until the future is dropped.
    pub(crate) async fn keep(self: Arc<Self>, counters: Arc<Counters>, ends: Arc<PartitionEnds>, health: Arc<Health>) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lag = total_lag(&counters.totals(), &ends, &health);
            self.sample(&counters, lag, timing::now().micros() / 1_000);
        }
    }

    /// Returns the seconds that ended after a time, in milliseconds since 1970.
    #[must_use]
    pub(crate) fn since(&self, at: i64) -> Vec<Second> {
        self.lock().seconds.iter().filter(|second| second.at > at).copied().collect()
    }

    /// Returns the latency of the last minute, first from the timestamps of records, then from those of events.
    #[must_use]
    pub(crate) fn last_minute(&self, counters: &Counters) -> (Quantiles, Quantiles) {
        let kept = self.lock();
        (kept.ingest.minute(&counters.ingest_latency), kept.event.minute(&counters.event_latency))
    }

    fn sample(&self, counters: &Counters, lag: Option<u64>, at: i64) {
        let tally = counters.tally();
        let mut kept = self.lock();
        let latency = kept.ingest.take(&counters.ingest_latency);
        kept.event.take(&counters.event_latency);
        let last = std::mem::replace(&mut kept.last, tally);
        let second = Second {
            at,
            records: tally.records - last.records,
            rows: tally.rows - last.rows,
            duplicates: tally.duplicates - last.duplicates,
            dead_letters: tally.dead_letters - last.dead_letters,
            lag,
            p50: latency.p50,
            p99: latency.p99,
        };
        kept.seconds.push_back(second);
        if kept.seconds.len() > KEPT {
            kept.seconds.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the lag of all partitions of this consumer, or `None` while Kafka does not report an end.
#[must_use]
pub(crate) fn total_lag(totals: &Totals, ends: &PartitionEnds, health: &Health) -> Option<u64> {
    let lags = ends.lags(totals);
    let owned = totals.partitions.values().filter(|one| one.next_offset.is_some()).count();
    // During an outage the group takes the partitions away, and a consumer without partitions would have no lag.
    (lags.len() == owned && !health.is_lag_unknown()).then(|| lags.values().sum())
}

impl Window {
    /// Takes the increments since the last call and returns their quantiles.
    fn take(&mut self, histogram: &Histogram) -> Quantiles {
        let counts = histogram.counts();
        self.last.resize(counts.len(), 0);
        let added: Vec<u64> = counts.iter().zip(&self.last).map(|(now, last)| now - last).collect();
        self.last = counts;
        let quantiles = Quantiles::of(histogram, &added);
        self.added.push_back(added);
        if self.added.len() > MINUTE {
            self.added.pop_front();
        }
        quantiles
    }

    fn minute(&self, histogram: &Histogram) -> Quantiles {
        let mut all = vec![0; self.last.len()];
        for added in &self.added {
            all.iter_mut().zip(added).for_each(|(all, added)| *all += added);
        }
        Quantiles::of(histogram, &all)
    }
}

impl Quantiles {
    fn of(histogram: &Histogram, counts: &[u64]) -> Self {
        let at = |share| histogram.quantile_of(counts, share);
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline_runtime::kafka::Connection;

    use super::*;

    #[test]
    fn a_second_has_what_was_added_in_it_and_old_ones_go() {
        let (history, counters) = (History::default(), Counters::default());
        counters.ingest_latency.observe(0.2, 100);
        history.sample(&counters, Some(0), 1_000);
        history.sample(&counters, Some(0), 2_000);
        let seconds = history.since(0);
        assert!(seconds[0].p50.is_some_and(|p50| (0.16..=0.2).contains(&p50)), "{seconds:?}");
        assert_eq!(seconds[1].p50, None);
        assert_eq!(history.since(1_000).len(), 1);
        for at in 3..=700 {
            history.sample(&counters, Some(0), at * 1_000);
        }
        assert_eq!((history.since(0).len(), history.since(0)[0].at), (KEPT, 101_000));
        assert_eq!(history.last_minute(&counters).0, Quantiles::default(), "more than a minute ago");
    }

    #[test]
    fn the_lag_is_unknown_while_kafka_does_not_tell() {
        let (counters, ends) = (Counters::default(), PartitionEnds::default());
        let health = Health::new(Connection::default());
        let lag = || total_lag(&counters.totals(), &ends, &health);
        assert_eq!(lag(), Some(0), "no partitions yet");
        health.kafka().succeeded();
        assert_eq!(lag(), Some(0));
        health.kafka().refused("invalid credentials");
        assert_eq!(lag(), None, "the partitions are lost, or will be");
        health.kafka().succeeded();
        counters.owns(0, 5);
        assert_eq!(lag(), None);
    }
}
