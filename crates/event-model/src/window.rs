//! Limits of a value: its maximum size and the window of its timestamp.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// Maximum size of a value in bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// Range of an event's timestamp, relative to its Kafka record.
///
/// The reference is the record's timestamp and not the clock, so that a record gets the same result whenever it is
/// read. But the producer sets that timestamp, so [`present`](Self::present) bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Maximum time by which an event may precede its record.
    pub past: Duration,
    /// Maximum time by which an event may follow its record, or the present if the record's timestamp is in the future.
    pub future: Duration,
    /// The present, used for a record without a timestamp and to bound timestamps in the future. `None` disables both:
    /// a record without a timestamp then has no window.
    pub present: Option<Timestamp>,
}

impl Default for Window {
    /// Returns a window of 400 days before to one day after the record, without a present.
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { past: 400 * DAY, future: DAY, present: None }
    }
}

impl Window {
    /// Returns the window with the present set.
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
