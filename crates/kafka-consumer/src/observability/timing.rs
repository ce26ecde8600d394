//! The times of a batch's records, so that their ages can be told when it is committed.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::Timestamp;

/// What is younger than this when its batch is opened is kept to 4 ms, what is older to a second.
const FRESH: Duration = Duration::from_secs(4);
const FINE_BITS: u32 = 12;
const COARSE_BITS: u32 = 20;

/// How old an event may be when it is sent, in microseconds, if it is to say how quick the way is. A record's time is cut
/// to milliseconds and clocks differ, so it may also seem to be sent a little before it happened.
const SENT_AT_ONCE: Range<i64> = -1_000_000..60_000_000;

/// The time now.
#[must_use]
pub(crate) fn now() -> Timestamp {
    before_now(Duration::ZERO)
}

/// The time so long ago.
#[must_use]
pub(crate) fn before_now(ago: Duration) -> Timestamp {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(micros(now).saturating_sub(micros(ago)))
}

/// Times, with how many records share each. Records come nearly in the order of their times, so neighbours are put
/// together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<(i64, u64)>);

impl Times {
    /// Adds a time; `fresh_since` is that of [`fresh_since`] for the batch.
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

    /// How long ago they were, in seconds, and how many of each; what is still to come is now.
    #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction")]
    pub(crate) fn ages(&self, now: Timestamp) -> impl Iterator<Item = (f64, u64)> {
        let now = now.micros();
        self.0.iter().map(move |(time, count)| (now.saturating_sub(*time).max(0) as f64 / 1e6, *count))
    }
}

/// From when on the times of a batch that is opened now are kept finely.
#[must_use]
pub(crate) fn fresh_since() -> Timestamp {
    before_now(FRESH)
}

/// The times of one partition's records in a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordTimes {
    /// The records' own timestamps: when they were sent.
    pub(crate) sent: Times,
    /// The timestamps of those events that were younger than a minute when they were sent.
    pub(crate) happened: Times,
}

impl RecordTimes {
    /// Adds a record, and its event if it is one.
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
