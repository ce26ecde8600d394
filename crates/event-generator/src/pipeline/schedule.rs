//! Determines the time at which an event may be sent, and its lateness.

use std::time::Duration;

use crate::clock::{Clock, Pace};

/// Lateness in microseconds beyond which the log reports that the run is behind its schedule.
const BEHIND_MICROS: i64 = 1_000_000;

/// The schedule of a run.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    clock: Clock,
    /// The last reading of the clock. A reading per record would cost too much.
    now: i64,
    /// True once the schedule has reached the present.
    caught_up: bool,
    behind: bool,
}

impl Schedule {
    pub(super) fn new(pace: Pace, clock: Clock) -> Self {
        Self { pace, clock, now: clock.micros(), caught_up: pace == Pace::Live, behind: false }
    }

    /// Reads the clock.
    pub(super) fn update(&mut self) {
        self.now = self.clock.micros();
    }

    /// Returns the time until an event may be sent, or `None` if it may be sent now.
    pub(super) fn time_until(&mut self, due: i64) -> Option<Duration> {
        if self.pace == Pace::Max || due <= self.now {
            return None;
        }
        self.update();
        let early = u64::try_from(due - self.now).ok().filter(|early| *early > 0)?;
        self.caught_up = true;
        Some(Duration::from_micros(early))
    }

    /// Records that an event is sent now. Returns its lateness in microseconds, or `None` in a backfill.
    pub(super) fn record_sent(&mut self, due: i64) -> Option<i64> {
        if self.pace == Pace::Max || !self.caught_up {
            return None;
        }
        let late = self.now - due;
        if (late > BEHIND_MICROS) != self.behind {
            self.behind = !self.behind;
            let change = if self.behind { "behind schedule" } else { "caught up with the schedule" };
            tracing::warn!(late_ms = late / 1_000, "{change}");
        }
        Some(late)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::clock::test_clock::{advance, start_at};

    const SECOND: i64 = 1_000_000;

    fn schedule(pace: Pace) -> (Schedule, i64) {
        let clock = Clock::start();
        (Schedule::new(pace, clock), clock.micros())
    }

    #[test]
    fn a_live_event_waits_until_it_is_due() {
        let (mut schedule, now) = schedule(Pace::Live);
        assert!(schedule.time_until(now + 3_600 * SECOND).unwrap() > Duration::from_secs(3_500));
        assert_eq!(schedule.time_until(now - SECOND), None);
        assert!(schedule.record_sent(now - SECOND).unwrap() >= SECOND);
    }

    #[test]
    fn after_a_suspension_overdue_events_are_sent_at_once_and_are_late() {
        let start = 1_800_000_000 * SECOND;
        let mut schedule = Schedule::new(Pace::Live, start_at(start));
        assert_eq!(schedule.time_until(start + SECOND), Some(Duration::from_secs(1)));
        // The monotonic clock stands still while the host is suspended.
        advance(Duration::from_millis(5), 25 * SECOND);
        assert_eq!(schedule.time_until(start + SECOND), None);
        assert_eq!(schedule.record_sent(start + SECOND), Some(24 * SECOND));
        assert_eq!(schedule.time_until(start + 25 * SECOND), None);
        assert_eq!(schedule.time_until(start + 26 * SECOND), Some(Duration::from_secs(1)), "then it is on time");
    }

    #[test]
    fn a_backfill_never_waits_and_is_never_late() {
        let (mut schedule, now) = schedule(Pace::Max);
        assert_eq!(schedule.time_until(now + 3_600 * SECOND), None);
        assert_eq!(schedule.record_sent(now - 3_600 * SECOND), None);
    }

    #[test]
    fn a_backfill_that_follows_is_late_only_after_it_caught_up() {
        let (mut schedule, now) = schedule(Pace::Follow);
        assert_eq!(schedule.record_sent(now - 3_600 * SECOND), None);
        assert!(schedule.time_until(now + 3_600 * SECOND).is_some());
        assert!(schedule.record_sent(now - SECOND).is_some());
    }
}
