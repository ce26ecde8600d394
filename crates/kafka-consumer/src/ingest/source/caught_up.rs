//! End of a run with `--until-caught-up`: all records up to each partition's target are committed in PostgreSQL.
//!
//! Reading to the end is not enough. In-flight records may be dropped because another consumer moved the offset, and an
//! open transaction ends a partition for a `read_committed` consumer before its high watermark. Only the committed
//! offset is proof. The target is the high watermark at the time when the end was first reached, so that a live
//! producer cannot keep the run from ending.

use std::collections::BTreeMap;
use std::fmt;

use crate::observability::lag::HeldBack;

/// Progress of the partitions that are read.
#[derive(Debug, Default)]
pub(crate) struct CaughtUp(BTreeMap<i32, Progress>);

/// Progress of a partition since it was assigned, or since its in-flight records were last dropped.
#[derive(Clone, Copy, Debug)]
struct Progress {
    committed: i64,
    at_end: bool,
    target: Option<i64>,
}

impl Progress {
    fn is_done(self) -> bool {
        self.target.is_some_and(|target| self.committed >= target)
    }
}

impl CaughtUp {
    /// Adds a partition that is read from its offset in PostgreSQL.
    pub(crate) fn begin(&mut self, partition: i32, committed: i64) {
        self.0.insert(partition, Progress { committed, at_end: false, target: None });
    }

    /// Resets a partition whose in-flight records were dropped: it has to be read to its end again.
    pub(crate) fn dropped(&mut self, partition: i32) {
        if let Some(one) = self.0.get_mut(&partition) {
            (one.at_end, one.target) = (false, None);
        }
    }

    /// Removes a partition that is no longer read.
    pub(crate) fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// Notes that a partition was read to its end.
    pub(crate) fn at_end(&mut self, partition: i32) {
        if let Some(one) = self.0.get_mut(&partition) {
            one.at_end = true;
        }
    }

    /// Notes that the records of a partition before `next_offset` are committed.
    pub(crate) fn committed(&mut self, partition: i32, next_offset: i64) {
        if let Some(one) = self.0.get_mut(&partition) {
            one.committed = one.committed.max(next_offset);
        }
    }

    /// Returns the partitions that were read to their ends but have no target yet.
    pub(crate) fn without_target(&self) -> Vec<i32> {
        self.0.iter().filter(|(_, one)| one.at_end && one.target.is_none()).map(|(partition, _)| *partition).collect()
    }

    /// Sets the target of a partition that was read to its end, unless it has one.
    pub(crate) fn set_target(&mut self, partition: i32, high: i64) {
        if let Some(one) = self.0.get_mut(&partition).filter(|one| one.at_end) {
            one.target.get_or_insert(high);
        }
    }

    /// Returns true if all partitions are committed up to their targets. Returns false without partitions, because the
    /// assignment may not have arrived yet.
    pub(crate) fn is_done(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|one| one.is_done())
    }

    /// Returns the first incomplete partition if open transactions alone hold back all incomplete partitions.
    pub(crate) fn held_back(&self, held_back: impl Fn(i32) -> Option<HeldBack>) -> Option<(i32, HeldBack)> {
        let mut first = None;
        for (partition, one) in self.0.iter().filter(|(_, one)| !one.is_done()) {
            let target = one.target?;
            let held = held_back(*partition).filter(|held| (held.stable..target).contains(&one.committed))?;
            first = first.or(Some((*partition, held)));
        }
        first
    }
}

/// Describes the incomplete partitions.
impl fmt::Display for CaughtUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left: Vec<(&i32, &Progress)> = self.0.iter().filter(|(_, one)| !one.is_done()).collect();
        let Some((partition, one)) = left.first() else { return f.write_str("no partitions were assigned") };
        write!(f, "{} of {} partitions are not committed up to their ends", left.len(), self.0.len())?;
        write!(f, " (partition {partition} is committed up to offset {}", one.committed)?;
        one.target.map_or(Ok(()), |target| write!(f, " of {target}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use event_model::Timestamp;

    use super::*;

    fn read_to_the_end(partition: i32, committed: i64, target: i64) -> CaughtUp {
        let mut caught_up = CaughtUp::default();
        caught_up.begin(partition, committed);
        caught_up.at_end(partition);
        caught_up.set_target(partition, target);
        caught_up
    }

    #[test]
    fn read_is_not_committed() {
        let mut caught_up = CaughtUp::default();
        assert!(!caught_up.is_done(), "no partitions yet");
        caught_up.begin(3, 100);
        assert!(caught_up.without_target().is_empty(), "the end was not reached");
        caught_up.set_target(3, 100);
        caught_up.at_end(3);
        assert_eq!(caught_up.without_target(), [3], "a target from before the end does not count");
        caught_up.set_target(3, 200);
        caught_up.set_target(3, 900);
        assert!(caught_up.without_target().is_empty() && !caught_up.is_done());
        caught_up.committed(3, 199);
        assert!(!caught_up.is_done());
        caught_up.committed(3, 200);
        caught_up.committed(3, 150);
        assert!(caught_up.is_done(), "a live producer moves the end, not the target");
        caught_up.begin(4, 0);
        assert!(!caught_up.is_done(), "another partition was assigned");
        caught_up.forget(4);
        assert!(caught_up.is_done(), "and revoked");
    }

    #[test]
    fn what_was_dropped_in_flight_is_read_again() {
        let mut caught_up = read_to_the_end(0, 100, 200);
        caught_up.dropped(0);
        assert!(!caught_up.is_done());
        caught_up.committed(0, 200);
        assert!(!caught_up.is_done(), "a report from before");
        caught_up.begin(0, 150);
        assert!(!caught_up.is_done());
        caught_up.at_end(0);
        caught_up.set_target(0, 200);
        caught_up.committed(0, 200);
        assert!(caught_up.is_done());
    }

    #[test]
    fn an_empty_partition_and_one_that_somebody_else_has_read_are_done_at_their_ends() {
        assert!(read_to_the_end(0, 0, 0).is_done());
        assert!(read_to_the_end(0, 200, 200).is_done());
    }

    #[test]
    fn only_an_open_transaction_is_left_to_wait_for() {
        let now = Instant::now();
        let held = |stable: i64| move |_: i32| Some(HeldBack::noticed(stable, 200, now, Timestamp::from_micros(1)));
        let mut caught_up = read_to_the_end(0, 100, 200);
        assert!(caught_up.held_back(held(100)).is_some());
        assert!(caught_up.held_back(held(150)).is_none(), "50 can still be read and committed");
        assert!(caught_up.held_back(|_| None).is_none(), "they are in flight");
        caught_up.committed(0, 150);
        assert!(caught_up.held_back(held(150)).is_some());
        caught_up.begin(1, 0);
        assert!(caught_up.held_back(held(150)).is_none(), "another partition is still read");
        caught_up.forget(1);
        caught_up.committed(0, 200);
        assert!(caught_up.held_back(held(250)).is_none(), "a transaction after the target does not matter");
    }

    #[test]
    fn what_is_left_is_told() {
        assert_eq!(CaughtUp::default().to_string(), "no partitions were assigned");
        let mut caught_up = read_to_the_end(0, 5, 5);
        caught_up.begin(2, 7);
        let told = "1 of 2 partitions are not committed up to their ends (partition 2 is committed up to offset 7)";
        assert_eq!(caught_up.to_string(), told);
        caught_up.at_end(2);
        caught_up.set_target(2, 9);
        assert!(caught_up.to_string().ends_with("up to offset 7 of 9)"));
    }
}
