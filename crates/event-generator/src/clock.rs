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

/// Time of day: read at the start and advanced by a monotonic clock, unless the system clock is ahead of it.
///
/// The monotonic clock stands still while the host is suspended or a virtual machine is paused, and the system clock
/// continues; the difference is the length of the pause. Setting the system clock back has no effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Reading,
    read: fn() -> Reading,
}

/// The two clocks of the system at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) monotonic: Instant,
    /// System clock, in microseconds since the epoch.
    pub(crate) system: i64,
}

impl Reading {
    fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Instant::now(), system: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX) }
    }

    /// Returns the time of day of a later reading, in microseconds since the epoch.
    fn time_of(&self, later: &Self) -> i64 {
        let elapsed = later.monotonic.saturating_duration_since(self.monotonic);
        let advanced = self.system.saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
        advanced.max(later.system)
    }
}

impl Clock {
    /// Reads the time of day.
    pub(crate) fn start() -> Self {
        Self::reading(Reading::now)
    }

    /// Creates a clock that takes its readings from a function.
    pub(crate) fn reading(read: fn() -> Reading) -> Self {
        Self { started: read(), read }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros())
    }

    /// Returns the present in microseconds since the epoch.
    pub(crate) fn micros(&self) -> i64 {
        self.started.time_of(&(self.read)())
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        Timestamp::from_micros(self.started.system)
    }
}

/// Clocks of the current test's thread, which the test sets.
#[cfg(test)]
pub(crate) mod test_clock {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::{Clock, Reading};

    thread_local! {
        static READING: Cell<Reading> = Cell::new(Reading { monotonic: Instant::now(), system: 0 });
    }

    /// Returns a clock that starts at a time, in microseconds since the epoch.
    pub(crate) fn start_at(system: i64) -> Clock {
        READING.set(Reading { monotonic: Instant::now(), system });
        Clock::reading(|| READING.get())
    }

    /// Advances the monotonic clock and, by another time in microseconds, the system clock.
    pub(crate) fn advance(monotonic: Duration, system: i64) {
        let Reading { monotonic: before, system: at } = READING.get();
        READING.set(Reading { monotonic: before + monotonic, system: at + system });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::test_clock::{advance, start_at};
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn the_clock_is_monotonic() {
        let clock = Clock::start();
        let before = clock.micros();
        assert!(clock.micros() >= before);
        assert!(clock.started_at() <= clock.now());
    }

    #[test]
    fn a_suspension_counts_and_a_clock_set_back_does_not() {
        let clock = start_at(1_000 * SECOND);
        advance(Duration::from_secs(2), 2 * SECOND);
        assert_eq!(clock.micros(), 1_002 * SECOND);
        advance(Duration::ZERO, 3_600 * SECOND);
        assert_eq!(clock.micros(), 4_602 * SECOND, "suspended for an hour");
        advance(Duration::from_secs(1), -7_200 * SECOND);
        assert_eq!(clock.micros(), 1_003 * SECOND, "the monotonic clock advances");
        advance(Duration::from_secs(1), SECOND);
        assert_eq!(clock.micros(), 1_004 * SECOND);
    }
}
