//! Times at which drafts of the manifest are written.

use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
/// Ages of a run at which its first drafts are due, after the one at its start.
const FIRST_DRAFTS: [Duration; 5] = [
    Duration::from_mins(2),
    Duration::from_mins(4),
    Duration::from_mins(8),
    Duration::from_mins(16),
    Duration::from_mins(32),
];
/// Interval of the later drafts.
const HOUR: Duration = Duration::from_hours(1);

/// Schedule of the drafts of a run: [`FIRST_DRAFTS`], then every hour.
///
/// A bucket with versioning keeps each draft, and the size of a draft grows with the hours of the run. So drafts are
/// written more rarely as the run ages. Times are the age of the run, not of the process: a run that is resumed often
/// writes no more of them.
#[derive(Debug)]
pub(super) struct DraftSchedule {
    next: Duration,
}

impl DraftSchedule {
    /// Creates the schedule of a run from an age on.
    pub(super) fn after(age: Duration) -> Self {
        Self { next: next_draft(age) }
    }

    /// Makes a draft due at once.
    pub(super) fn skip_ahead(&mut self) {
        self.next = Duration::ZERO;
    }

    /// Returns true if a draft is due, unless nothing changed since the last one.
    pub(super) fn is_due(&self, age: Duration) -> bool {
        age >= self.next
    }

    /// Records that the draft in the lake is up to date.
    pub(super) fn record_success(&mut self, age: Duration) {
        self.next = next_draft(age);
    }

    /// Records that the draft was not written.
    pub(super) fn record_failure(&mut self, age: Duration) {
        self.next = next_draft(age).min(age + MINUTE);
    }
}

fn next_draft(age: Duration) -> Duration {
    let first = FIRST_DRAFTS.into_iter().find(|draft| *draft > age);
    first.unwrap_or_else(|| Duration::from_hours(age.as_secs() / HOUR.as_secs() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ages in minutes at which a run writes drafts, if it checks every second.
    fn drafts(from: Duration, until: Duration) -> Vec<u64> {
        let mut schedule = DraftSchedule::after(from);
        let mut written = Vec::new();
        for second in from.as_secs()..until.as_secs() {
            let age = Duration::from_secs(second);
            if schedule.is_due(age) {
                written.push(second / 60);
                schedule.record_success(age);
            }
        }
        written
    }

    #[test]
    fn drafts_get_rarer_as_the_run_ages() {
        assert_eq!(drafts(Duration::ZERO, 4 * HOUR), [2, 4, 8, 16, 32, 60, 120, 180]);
        assert_eq!(drafts(Duration::ZERO, 24 * HOUR).len(), 28);
    }

    #[test]
    fn a_resumed_run_continues_its_schedule() {
        assert_eq!(drafts(5 * MINUTE, 20 * MINUTE), [8, 16]);
        let process = |number: u32| drafts(number * Duration::from_secs(50), (number + 1) * Duration::from_secs(50));
        assert_eq!((0..48).flat_map(process).collect::<Vec<_>>(), [2, 4, 8, 16, 32], "resumed every 50 s");
    }

    #[test]
    fn a_failed_draft_is_written_a_minute_later() {
        let age = 70 * MINUTE;
        let mut schedule = DraftSchedule::after(age);
        assert!(!schedule.is_due(age));
        schedule.skip_ahead();
        assert!(schedule.is_due(age));
        schedule.record_failure(age);
        assert!(!schedule.is_due(age) && schedule.is_due(age + MINUTE));
    }
}
