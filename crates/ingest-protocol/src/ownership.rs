//! Partitions that a writer owns, and the parts of a batch that it may write.

use std::collections::BTreeMap;

use crate::mutants::{Mutant, mutated};
use crate::position::{OwnedPartition, Position};

/// Partitions of one writer. No other session of the process moves their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ownership(BTreeMap<i32, OwnedPartition>);

impl Ownership {
    /// Adds a partition, or replaces its earlier assignment.
    pub fn own(&mut self, partition: i32, epoch: u64, position: Position) {
        self.0.insert(partition, OwnedPartition { epoch, position });
    }

    /// Removes a partition. Returns true if it was owned.
    pub fn release(&mut self, partition: i32) -> bool {
        self.0.remove(&partition).is_some()
    }

    /// Removes a partition whose offset another consumer moved. Returns the assignment that this ends.
    pub fn moved(&mut self, partition: i32) -> Option<u64> {
        self.0.remove(&partition).map(|owned| owned.epoch)
    }

    /// Returns true if a part that was read under this assignment may be written. A part of an earlier one may overlap
    /// the present position or leave a gap before it.
    #[must_use]
    pub fn may_write(&self, partition: i32, epoch: u64) -> bool {
        self.0.get(&partition).is_some_and(|owned| owned.epoch == epoch || mutated(Mutant::EpochUnchecked))
    }

    /// Returns the partition, if the writer owns it.
    #[must_use]
    pub fn get(&self, partition: i32) -> Option<&OwnedPartition> {
        self.0.get(&partition)
    }

    /// Advances the position of a partition after a commit.
    pub fn committed(&mut self, partition: i32, next_offset: i64) {
        if let (Some(owned), false) = (self.0.get_mut(&partition), mutated(Mutant::CommitNotNoted)) {
            owned.position.next_offset = next_offset;
        }
    }

    /// Advances the position of a partition whose transaction in doubt has committed.
    pub fn settled(&mut self, partition: i32, next_offset: i64) {
        if !mutated(Mutant::SettlementNotNoted) {
            self.committed(partition, next_offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next_offset: i64) -> Position {
        Position { next_offset, incarnation: 0, last: None, lettered_up_to: 0 }
    }

    #[test]
    fn only_parts_of_the_present_assignment_are_written() {
        let mut writer = Ownership::default();
        assert!(!writer.may_write(1, 1), "not owned yet");
        writer.own(1, 1, at(5));
        assert!(writer.may_write(1, 1));
        assert!(!writer.may_write(2, 1), "another partition");
        writer.own(1, 2, at(3));
        assert!(!writer.may_write(1, 1), "read under the former assignment");
        assert!(writer.may_write(1, 2));
        assert!(writer.release(1));
        assert!(!writer.may_write(1, 2), "released");
        assert!(!writer.release(1), "released before");
    }

    #[test]
    fn a_commit_advances_the_position_of_its_assignment() {
        let mut writer = Ownership::default();
        writer.own(1, 1, at(5));
        writer.committed(1, 7);
        writer.committed(2, 9);
        assert_eq!(writer.get(1), Some(&OwnedPartition { epoch: 1, position: at(7) }));
        writer.settled(1, 8);
        assert_eq!(writer.get(1).map(|owned| owned.position), Some(at(8)));
        assert_eq!(writer.get(2), None, "a commit does not make an owner");
    }

    #[test]
    fn a_moved_partition_ends_its_assignment_once() {
        let mut writer = Ownership::default();
        writer.own(1, 4, at(5));
        assert_eq!(writer.moved(1), Some(4));
        assert_eq!(writer.moved(1), None);
        assert!(!writer.may_write(1, 4));
    }
}
