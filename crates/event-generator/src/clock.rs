//! The clock of a run, and its pace.

use std::time::{Instant, SystemTime};

use event_model::Timestamp;

/// Relation between the time at which an event is due and the time at which it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Sends an event when it is due. An overdue event is sent at once and delays no other: the schedule is open loop.
    Live,
    /// Sends as fast as the sinks accept.
    Max,
    /// Sends as fast as the sinks accept until the schedule reaches the present, then as [`Pace::Live`].
    Follow,
}

/// Time of day, read once at the start and advanced by a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: i64,
}

impl Clock {
    /// Reads the time of day.
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Self { started: Instant::now(), started_at }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros())
    }

    /// Returns the present in microseconds since the epoch.
    pub(crate) fn micros(&self) -> i64 {
        self.started_at.saturating_add(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        Timestamp::from_micros(self.started_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_monotonic() {
        let clock = Clock::start();
        let before = clock.micros();
        assert!(clock.micros() >= before);
        assert!(clock.started_at() <= clock.now());
    }
}
