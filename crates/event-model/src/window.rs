//! Limits of a value: its size, and the window of its time.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The largest value that can be an event, in bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// Range of times that an event may have, relative to its Kafka record.
///
/// The record's timestamp and not the clock is the reference: the same record then gets the same result whenever it is
/// read. The timestamp is the producer's claim, however, so [`present`](Self::present) bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Maximum time of an event before its record.
    pub past: Duration,
    /// Maximum time of an event after its record, or after the present if the record claims to come from the future.
    pub future: Duration,
    /// The present, by which a record without a timestamp is checked. `None` where no producer's claim has to be bounded:
    /// a record without a timestamp then has no window.
    pub present: Option<Timestamp>,
}

impl Default for Window {
    /// 400 days before and one day after the record, without a present.
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { past: 400 * DAY, future: DAY, present: None }
    }
}

impl Window {
    /// Returns the window as it is at a time.
    #[must_use]
    pub fn at(self, present: Timestamp) -> Self {
        Self { present: Some(present), ..self }
    }

    /// Returns true if the window around the record contains the event, bounds included.
    #[must_use]
    pub fn holds(self, event: Timestamp, record: Option<Timestamp>) -> bool {
        let (oldest, newest) = match (record, self.present) {
            (Some(record), Some(present)) => (record, record.min(present)),
            (Some(record), None) => (record, record),
            (None, Some(present)) => (present, present),
            (None, None) => return true,
        };
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earliest = oldest.micros().saturating_sub(micros(self.past));
        let latest = newest.micros().saturating_add(micros(self.future));
        (earliest..=latest).contains(&event.micros())
    }
}
