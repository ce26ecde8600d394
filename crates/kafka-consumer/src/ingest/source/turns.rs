//! Turns: the backlog of many partitions is read a part of the partitions at a time.
//!
//! Kafka looks at each partition of each fetch, and librdkafka at each one whenever a part of a fetch arrives. With
//! 2,000 partitions, that takes more processor time than the records. A partition that has to wait for its turn, or has
//! had it, is paused. A round of turns ends when the last turn begins, or after a while: all partitions are read then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Number of partitions that are read at once.
const AT_ONCE: usize = 100;
/// Minimum number of partitions with a backlog. Turns of fewer ones would not save much.
const MINIMUM: usize = 2 * AT_ONCE;
/// Minimum number of unread offsets of a partition with a backlog. Reading them takes longer than pausing it.
const BACKLOG: i64 = 250;
/// Maximum time of a round. New records of a partition wait that long.
const ROUND: Duration = Duration::from_secs(30);
/// Time without any record after which all partitions are read, such as when the leaders of those whose turn it is are
/// down.
const STARVED: Duration = Duration::from_secs(1);
/// Time until turns may begin again after that.
const RECOVERY: Duration = Duration::from_mins(1);

/// Partitions that take turns. Empty if all partitions are read at once.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    partitions: BTreeMap<i32, Turn>,
    /// Partitions that the client has paused. Only these may be resumed: librdkafka fetches a partition from its former
    /// start again if it is resumed without having been paused.
    paused: BTreeSet<i32>,
    /// Turns began or ended since the last call of [`Turns::changes`].
    changed: bool,
    /// Partition whose turn began last. The next round begins after it.
    last: i32,
    began: Option<Instant>,
    starving_since: Option<Instant>,
    not_before: Option<Instant>,
}

/// Unread offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) next_offset: i64,
    pub(crate) end: i64,
}

impl Unread {
    fn offsets(self) -> i64 {
        self.end - self.next_offset
    }
}

/// Turn of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The partition is paused. Its turn will end at this offset.
    Waiting(i64),
    /// The partition is read up to this offset.
    Reading(i64),
    /// The partition is paused, because others have not had their turn.
    Over,
}

impl Turn {
    fn is_paused(&self) -> bool {
        !matches!(self, Self::Reading(_))
    }
}

/// Partitions to pause and to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) pause: Vec<i32>,
    pub(crate) resume: Vec<i32>,
}

impl Turns {
    /// Returns true if a round may begin.
    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.partitions.is_empty() && self.not_before.is_none_or(|time| time <= now)
    }

    /// Begins a round of the partitions that are read, unless few of them have a backlog. The turn of each partition
    /// ends at its present end.
    pub(crate) fn begin(&mut self, unread: &BTreeMap<i32, Unread>, now: Instant) {
        if unread.values().filter(|one| one.offsets() >= BACKLOG).count() < MINIMUM {
            return;
        }
        tracing::debug!(partitions = unread.len(), "turns begin");
        self.began = Some(now);
        let turn = |one: &Unread| if one.offsets() > 0 { Turn::Waiting(one.end) } else { Turn::Over };
        self.partitions = unread.iter().map(|(partition, one)| (*partition, turn(one))).collect();
        for _ in 0..AT_ONCE {
            self.begin_next();
        }
    }

    /// Notes that a partition was read up to an offset.
    pub(crate) fn read_up_to(&mut self, partition: i32, next_offset: i64) {
        self.starving_since = None;
        if matches!(self.partitions.get(&partition), Some(Turn::Reading(end)) if next_offset >= *end) {
            self.at_end(partition);
        }
    }

    /// Notes that a partition has no further records. Its turn is over.
    pub(crate) fn at_end(&mut self, partition: i32) {
        if let Some(turn @ Turn::Reading(_)) = self.partitions.get_mut(&partition) {
            *turn = Turn::Over;
            self.begin_next();
        }
    }

    /// Forgets partitions that are no longer assigned.
    pub(crate) fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.paused.remove(partition);
            if let Some(Turn::Reading(_)) = self.partitions.remove(partition) {
                self.begin_next();
            }
        }
    }

    /// Notes that no record is available. If that lasts, all partitions are read.
    pub(crate) fn starve(&mut self, now: Instant) {
        if self.partitions.is_empty() {
            return;
        }
        let since = *self.starving_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= STARVED {
            self.not_before = Some(now + RECOVERY);
            self.end();
        }
    }

    /// Ends a round that has lasted long enough.
    pub(crate) fn end_due(&mut self, now: Instant) {
        if self.began.is_some_and(|began| now.saturating_duration_since(began) >= ROUND) {
            self.end();
        }
    }

    /// Begins the turn of the next partition. Ends the round if none is left.
    fn begin_next(&mut self) {
        let later = self.partitions.range(self.last.saturating_add(1)..).chain(self.partitions.range(..=self.last));
        let mut waiting = later.filter_map(|(partition, turn)| match turn {
            Turn::Waiting(end) => Some((*partition, *end)),
            Turn::Reading(_) | Turn::Over => None,
        });
        let next = waiting.next();
        let is_last = waiting.next().is_none();
        self.changed = true;
        if let Some((partition, end)) = next {
            self.partitions.insert(partition, Turn::Reading(end));
            self.last = partition;
        }
        if is_last {
            self.end();
        }
    }

    fn end(&mut self) {
        if !self.partitions.is_empty() {
            tracing::debug!("turns end");
        }
        self.partitions.clear();
        self.changed = true;
        (self.began, self.starving_since) = (None, None);
    }

    /// Returns the partitions to pause and to resume, which the caller does.
    pub(crate) fn changes(&mut self) -> Changes {
        if !std::mem::take(&mut self.changed) {
            return Changes::default();
        }
        let held = self.partitions.iter().filter(|(_, turn)| turn.is_paused());
        let held: BTreeSet<i32> = held.map(|(partition, _)| *partition).collect();
        let changes = Changes {
            pause: held.difference(&self.paused).copied().collect(),
            resume: self.paused.difference(&held).copied().collect(),
        };
        self.paused = held;
        changes
    }

    /// Returns true if the partition is paused until other partitions have had their turns.
    pub(crate) fn holds(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(Turn::is_paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 1_000;

    /// Turns of partitions whose numbers are not divisible by four have a backlog, and the paused partitions.
    struct Reading {
        turns: Turns,
        paused: BTreeSet<i32>,
    }

    impl Reading {
        fn begin(partitions: i32, now: Instant) -> Self {
            let mut reading = Self { turns: Turns::default(), paused: BTreeSet::new() };
            reading.begin_again(partitions, now);
            reading
        }

        fn begin_again(&mut self, partitions: i32, now: Instant) {
            let unread = |one: i32| Unread { next_offset: if one % 4 == 0 { END } else { 0 }, end: END };
            self.turns.begin(&(0..partitions).map(|one| (one, unread(one))).collect(), now);
            self.apply();
        }

        /// Pauses and resumes partitions as the client does.
        fn apply(&mut self) {
            let Changes { pause, resume } = self.turns.changes();
            for partition in pause {
                assert!(self.paused.insert(partition), "{partition} was paused before");
            }
            for partition in resume {
                assert!(self.paused.remove(&partition), "{partition} was not paused");
            }
        }

        fn read_to_end(&mut self, partition: i32) {
            self.turns.read_up_to(partition, END - 1);
            assert!(!self.turns.holds(partition), "one record is left");
            // The last offset may be a transaction marker, which is not delivered.
            if partition % 2 == 0 {
                self.turns.at_end(partition);
            } else {
                self.turns.read_up_to(partition, END);
            }
            self.apply();
        }

        fn next(&self, partitions: i32, read: &BTreeSet<i32>) -> i32 {
            let mut left = (0..partitions).filter(|one| one % 4 != 0 && !read.contains(one));
            left.find(|one| !self.paused.contains(one)).unwrap_or_else(|| panic!("none is read after {read:?}"))
        }
    }

    #[test]
    fn few_backlogs_are_read_at_once() {
        let now = Instant::now();
        let reading = Reading::begin(265, now);
        assert!(reading.paused.is_empty() && reading.turns.may_begin(now), "198 of 265 have a backlog");
    }

    #[test]
    fn each_backlog_has_its_turn_and_none_stays_paused() {
        let now = Instant::now();
        let mut reading = Reading::begin(600, now);
        assert!(!reading.turns.may_begin(now));
        let mut read = BTreeSet::new();
        while read.len() < 450 {
            let ended = reading.turns.may_begin(now);
            assert_eq!(reading.paused.len(), if ended { 0 } else { 500 });
            assert!((0..600).all(|one| reading.turns.holds(one) == reading.paused.contains(&one)));
            let next = reading.next(600, &read);
            reading.read_to_end(next);
            read.insert(next);
        }
        assert!(reading.paused.is_empty() && reading.turns.may_begin(now));
    }

    #[test]
    fn a_long_round_ends_and_the_next_one_begins_with_the_others() {
        let start = Instant::now();
        let mut reading = Reading::begin(600, start);
        let first: BTreeSet<i32> = (0..600).filter(|one| !reading.paused.contains(one)).collect();
        reading.turns.end_due(start + Duration::from_millis(29_999));
        reading.apply();
        assert_eq!(reading.paused.len(), 500);
        reading.turns.end_due(start + ROUND);
        reading.apply();
        assert!(reading.paused.is_empty());
        reading.begin_again(600, start + ROUND);
        let second: BTreeSet<i32> = (0..600).filter(|one| !reading.paused.contains(one)).collect();
        assert_eq!((first.len(), second.len(), first.is_disjoint(&second)), (100, 100, true));
    }

    #[test]
    fn the_turns_of_lost_partitions_pass_to_others() {
        let now = Instant::now();
        let mut reading = Reading::begin(400, now);
        let lost: Vec<i32> = (50..250).collect();
        reading.turns.forget(&lost);
        reading.apply();
        reading.paused.retain(|partition| !lost.contains(partition));
        let read = (0..400).filter(|one| !lost.contains(one) && !reading.paused.contains(one)).count();
        assert_eq!(read, 100);
        reading.turns.forget(&(0..400).collect::<Vec<_>>());
        assert_eq!((reading.turns.changes(), reading.turns.may_begin(now)), (Changes::default(), true));
    }

    #[test]
    fn all_are_read_if_those_in_turn_bring_no_records() {
        let start = Instant::now();
        let mut reading = Reading::begin(400, start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        reading.turns.starve(at(0));
        reading.turns.starve(at(999));
        reading.turns.read_up_to(1, 1);
        reading.turns.starve(at(1_000));
        reading.turns.starve(at(1_999));
        reading.apply();
        assert_eq!(reading.paused.len(), 300);
        reading.turns.starve(at(2_000));
        reading.apply();
        assert!(reading.paused.is_empty());
        assert!(!reading.turns.may_begin(at(61_999)) && reading.turns.may_begin(at(62_000)));
    }
}
