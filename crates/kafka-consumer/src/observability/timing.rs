//! Timestamps of the records of a batch, kept to compute their latencies at the commit.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::Timestamp;

/// Age, at the opening of a batch, up to which timestamps are rounded to 4 ms. Older ones are rounded to a second.
const FRESH: Duration = Duration::from_secs(4);
const FINE_BITS: u32 = 12;
const COARSE_BITS: u32 = 20;

/// Time from an event to its record, in microseconds, within which the event counts for the latency.
///
/// An event that was sent later does not measure the pipeline. Record timestamps are truncated to milliseconds and
/// clocks differ, so an event may also appear up to a second later than its record.
const SENT_AT_ONCE: Range<i64> = -1_000_000..60_000_000;

/// Returns the current time.
#[must_use]
pub(crate) fn now() -> Timestamp {
    before_now(Duration::ZERO)
}

/// Returns the time `ago` before the present.
#[must_use]
pub(crate) fn before_now(ago: Duration) -> Timestamp {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(micros(now).saturating_sub(micros(ago)))
}

/// Rounded timestamps, each with its number of records. Records arrive almost in the order of their timestamps, so
/// equal neighbours are merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<(i64, u64)>);

impl Times {
    /// Adds a timestamp. `fresh_since` is the result of [`fresh_since`] for the batch.
    #[inline]
    pub(crate) fn add(&mut self, time: Timestamp, fresh_since: Timestamp) {
        let bits = if time < fresh_since { COARSE_BITS } else { FINE_BITS };
        // The middle of the step.
        let step = time.micros() >> bits << bits | 1 << (bits - 1);
        match self.0.last_mut() {
            Some((last, count)) if *last == step => *count += 1,
            _ => self.0.push((step, 1)),
        }
    }

    /// Returns the ages in seconds, each with its number of records. A timestamp in the future has the age 0.
    #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction")]
    pub(crate) fn ages(&self, now: Timestamp) -> impl Iterator<Item = (f64, u64)> {
        let now = now.micros();
        self.0.iter().map(move |(time, count)| (now.saturating_sub(*time).max(0) as f64 / 1e6, *count))
    }
}

/// Returns the oldest timestamp that a batch opened now rounds to 4 ms.
#[must_use]
pub(crate) fn fresh_since() -> Timestamp {
    before_now(FRESH)
}

/// Timestamps of the records of one partition in a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordTimes {
    /// Timestamps of the records, set when they were sent.
    pub(crate) sent: Times,
    /// Timestamps of the events that were younger than a minute when they were sent.
    pub(crate) happened: Times,
}

impl RecordTimes {
    /// Adds a record, and its event if there is one. Ignores a record without a timestamp.
    #[inline]
    pub(crate) fn add(&mut self, sent: Option<Timestamp>, happened: Option<Timestamp>, fresh_since: Timestamp) {
        let Some(sent) = sent else { return };
        self.sent.add(sent, fresh_since);
        if let Some(happened) = happened
            && SENT_AT_ONCE.contains(&sent.micros().saturating_sub(happened.micros()))
        {
            self.happened.add(happened, fresh_since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;

    fn at(seconds_ago: f64) -> Timestamp {
        #[expect(clippy::cast_possible_truncation, reason = "small")]
        Timestamp::from_micros(NOW - (seconds_ago * 1e6) as i64)
    }

    fn ages(times: &Times) -> Vec<(f64, u64)> {
        times.ages(Timestamp::from_micros(NOW)).collect()
    }

    #[test]
    fn ages_are_fine_when_young_and_coarse_when_old() {
        let fresh = at(4.0);
        for seconds in [0.010, 0.25, 3.9] {
            let mut times = Times::default();
            times.add(at(seconds), fresh);
            let (age, count) = ages(&times)[0];
            assert!((age - seconds).abs() < 0.0021 && count == 1, "{seconds}: {age}");
        }
        let mut old = Times::default();
        for millis in 0..2_000 {
            old.add(at(86_400.0 - f64::from(millis) / 1e3), fresh);
        }
        let ages = ages(&old);
        assert!(ages.len() <= 3 && ages.iter().map(|(_, count)| count).sum::<u64>() == 2_000, "{ages:?}");
        assert!(ages.iter().all(|(age, _)| (age - 86_399.0).abs() < 1.6), "{ages:?}");
    }

    #[test]
    fn late_events_and_records_without_a_time_are_left_out() {
        let (mut times, fresh) = (RecordTimes::default(), at(4.0));
        times.add(Some(at(1.0)), Some(at(1.5)), fresh);
        times.add(Some(at(1.0)), Some(at(100.0)), fresh);
        times.add(Some(at(3.0)), Some(at(0.5)), fresh);
        times.add(Some(at(1.0)), None, fresh);
        times.add(None, Some(at(1.0)), fresh);
        assert_eq!(ages(&times.sent).iter().map(|(_, count)| count).sum::<u64>(), 4);
        let happened = ages(&times.happened);
        assert!(happened.len() == 1 && (happened[0].0 - 1.5).abs() < 0.0021, "{happened:?}");
    }
}
