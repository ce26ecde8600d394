//! Compare-and-set of the offsets, and the settlement of partitions whose compare-and-set failed.

use std::collections::BTreeMap;

use crate::mutants::{Mutant, mutated};
use crate::position::{Position, RecordPosition};

/// Offset of a partition as PostgreSQL has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoredOffset {
    /// Offset of the next record.
    pub next_offset: i64,
    /// Incarnation of the topic.
    pub incarnation: i32,
    /// Last record that was read.
    pub last: Option<RecordPosition>,
}

impl StoredOffset {
    /// Returns true if a writer at this position may move the offset. The statement of the compare-and-set has the same
    /// condition.
    #[must_use]
    pub fn may_move_from(&self, position: &Position) -> bool {
        (self.next_offset == position.next_offset || mutated(Mutant::OffsetUnchecked))
            && (self.incarnation == position.incarnation || mutated(Mutant::IncarnationUnchecked))
    }
}

/// End of a part of a batch: what its transaction stores for the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartEnd {
    /// Offset after the part.
    pub next_offset: i64,
    /// Incarnation of the topic that was read.
    pub incarnation: i32,
    /// Last record. `None` if the part has no records.
    pub last: Option<RecordPosition>,
}

impl PartEnd {
    fn is_stored(&self, stored: &StoredOffset) -> bool {
        let same_last = self.last.is_none() || self.last == stored.last;
        self.next_offset == stored.next_offset
            && (self.incarnation == stored.incarnation || mutated(Mutant::SettledWithoutIncarnation))
            && (same_last || mutated(Mutant::SettledWithoutLastRecord))
    }
}

/// Settlement of a part whose compare-and-set failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The records of the part are committed.
    Committed,
    /// Another consumer moved the offset. The records of the part are dropped.
    Moved,
}

/// Settles each part of a batch whose compare-and-set failed. The other parts are written again.
///
/// If no earlier attempt is in doubt, another consumer moved the offsets. Otherwise the earlier attempt may have
/// committed, and `stored` has the offsets after the compare-and-set failed. A partition that another consumer moved to
/// exactly the same record counts as committed too, because the stored records are the same. That another partition
/// settles as committed is no proof: the transaction in doubt may have been rolled back, and another consumer may have
/// committed the records of that partition alone.
#[must_use]
pub fn settle(
    in_doubt: bool,
    parts: &BTreeMap<i32, PartEnd>,
    conflicts: &[i32],
    stored: &BTreeMap<i32, StoredOffset>,
) -> BTreeMap<i32, Settlement> {
    let of = |partition: &i32| {
        let is_stored = parts.get(partition).zip(stored.get(partition)).is_some_and(|(end, at)| end.is_stored(at));
        if in_doubt && is_stored { Settlement::Committed } else { Settlement::Moved }
    };
    if let (Some(first), true) = (conflicts.first(), mutated(Mutant::FirstConflictDecides)) {
        let all = if of(first) == Settlement::Committed { parts.keys().copied().collect() } else { vec![*first] };
        return all.into_iter().map(|partition| (partition, of(first))).collect();
    }
    if mutated(Mutant::ConflictDropsBatch) || (in_doubt && mutated(Mutant::OwnUpdatesSettle)) {
        return parts.keys().map(|partition| (*partition, of(partition))).collect();
    }
    conflicts.iter().map(|partition| (*partition, of(partition))).collect()
}

#[cfg(test)]
mod tests {
    use super::Settlement::{Committed, Moved};
    use super::*;

    fn record(offset: i64) -> RecordPosition {
        RecordPosition { offset, fingerprint: 100 + offset }
    }

    fn part(next_offset: i64) -> PartEnd {
        PartEnd { next_offset, incarnation: 0, last: Some(record(next_offset - 1)) }
    }

    fn stored(next_offset: i64) -> StoredOffset {
        StoredOffset { next_offset, incarnation: 0, last: Some(record(next_offset - 1)) }
    }

    #[test]
    fn the_offset_moves_only_from_where_its_writer_left_it() {
        let position = Position { next_offset: 5, incarnation: 1, last: Some(record(4)), lettered_up_to: 0 };
        let at = |next_offset, incarnation| StoredOffset { next_offset, incarnation, last: None };
        assert!(at(5, 1).may_move_from(&position));
        assert!(!at(4, 1).may_move_from(&position), "a promoted standby lacks the last commit");
        assert!(!at(6, 1).may_move_from(&position), "another consumer committed the next record");
        assert!(!at(5, 2).may_move_from(&position), "a recreated topic reached the same offset");
    }

    #[test]
    fn a_part_in_doubt_is_committed_if_its_end_is_stored() {
        let control = PartEnd { last: None, ..part(7) };
        let other = Some(RecordPosition { offset: 6, fingerprint: 0 });
        for (in_doubt, end, at, expected) in [
            (true, part(7), Some(stored(7)), Committed),
            (false, part(7), Some(stored(7)), Moved),
            (true, part(7), None, Moved),
            (true, part(7), Some(stored(6)), Moved),
            (true, part(7), Some(stored(8)), Moved),
            (true, part(7), Some(StoredOffset { incarnation: 1, ..stored(7) }), Moved),
            (true, part(7), Some(StoredOffset { last: other, ..stored(7) }), Moved),
            (true, part(7), Some(StoredOffset { last: None, ..stored(7) }), Moved),
            (true, control, Some(stored(7)), Committed),
            (true, control, Some(StoredOffset { incarnation: 1, ..stored(7) }), Moved),
        ] {
            let parts = BTreeMap::from([(0, end)]);
            let rows = at.map(|at| (0, at)).into_iter().collect();
            let settled = settle(in_doubt, &parts, &[0], &rows);
            assert_eq!(settled, BTreeMap::from([(0, expected)]), "{in_doubt} {end:?} {at:?}");
        }
    }

    /// The transaction was rolled back. Another consumer committed exactly the part of partition 0, a third one moved
    /// partition 2, and partition 1 is where this writer left it.
    #[test]
    fn each_part_is_settled_by_itself() {
        let parts = BTreeMap::from([(0, part(7)), (1, part(9)), (2, part(4))]);
        let rows = BTreeMap::from([(0, stored(7)), (2, stored(6))]);
        assert_eq!(settle(true, &parts, &[0, 2], &rows), BTreeMap::from([(0, Committed), (2, Moved)]));
    }

    /// The failed transaction shows its own updates: an offset that it moved looks as if the batch were committed.
    #[test]
    fn a_part_whose_compare_and_set_succeeded_is_written_again() {
        let parts = BTreeMap::from([(0, part(7)), (1, part(9))]);
        let rows = BTreeMap::from([(0, stored(7)), (1, stored(9))]);
        assert_eq!(settle(true, &parts, &[0], &rows), BTreeMap::from([(0, Committed)]));
    }
}
