//! Partitions that a consumer reads, their epochs, and the changes of the assignment.
//!
//! The group decides about the assignment. A change waits for positions from PostgreSQL or for the writers while polling
//! continues, so changes are queued and completed in their order.

use std::collections::{BTreeMap, VecDeque};

use crate::mutants::{Mutant, mutated};
use crate::position::Position;

/// Input of the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The group assigned partitions.
    Assigned(Vec<i32>),
    /// The group takes partitions back, and waits until they are released.
    Revoked(Vec<i32>),
    /// Partitions already belong to another member.
    Lost(Vec<i32>),
    /// The positions that were loaded last.
    Loaded(BTreeMap<i32, Position>),
    /// All writers have released the partitions, or the deadline for that has passed. After the deadline the
    /// compare-and-set of the offsets decides about batches in flight.
    Released,
    /// The outcome of the last seek.
    Sought(SeekOutcome),
    /// A writer found that another consumer moved the offset of a partition, and dropped its records.
    Moved {
        /// Partition whose offset was moved.
        partition: i32,
        /// Assignment under which the records were read.
        epoch: u64,
    },
    /// Kafka may lack the next record of a partition, or a record may have been missed.
    Uncertain,
    /// The client of the group was replaced by a new one, which has no partitions.
    ClientReplaced,
}

/// Outcome of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeekOutcome {
    /// The client reads from the position.
    Done,
    /// The seek failed and the partition is still assigned.
    Failed,
    /// The seek failed because the partition is no longer assigned. The group's change will follow.
    Unassigned,
}

/// Effect of a step. Effects are executed in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Load the positions of partitions and check them against Kafka. Answered by [`Input::Loaded`].
    Load(Vec<i32>),
    /// Stop reading a partition.
    StopReading(i32),
    /// Drop the records of a partition that are not in a closed batch.
    DropRecords(i32),
    /// Close the open batches and hand them over to the writers.
    CloseBatches,
    /// Make the writers release partitions after all earlier commands.
    Release {
        /// Partitions to release.
        partitions: Vec<i32>,
        /// The answer of the writers is awaited, with a deadline: [`Input::Released`].
        awaited: bool,
    },
    /// Read a partition from a position, and transfer it to its writer.
    Own {
        /// Partition to read.
        partition: i32,
        /// Assignment of the partition.
        epoch: u64,
        /// Position in PostgreSQL.
        position: Position,
    },
    /// Assign partitions to the client, at these offsets. This answers the group.
    Assign(Vec<(i32, i64)>),
    /// Make the client read a partition from another offset. Answered by [`Input::Sought`].
    Seek {
        /// Partition to read from another offset.
        partition: i32,
        /// Offset of the next record.
        next_offset: i64,
    },
    /// Take partitions from the client. This answers the group.
    Unassign {
        /// Partitions to take.
        partitions: Vec<i32>,
        /// They belonged to another member before.
        lost: bool,
    },
}

/// Change of the assignment by the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Change {
    Assign(Vec<i32>),
    Revoke(Vec<i32>),
    Lose(Vec<i32>),
}

/// Change that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    /// Waits for the positions of assigned partitions.
    Assigning,
    /// Waits for the positions of partitions that are read again.
    Locating,
    /// Waits for the outcome of a seek. Others follow.
    Seeking(i32, Position, BTreeMap<i32, Position>),
    /// Waits for the writers.
    Releasing(Vec<i32>, AfterRelease),
}

/// Next step after the writers have released partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AfterRelease {
    Unassign,
    Seek,
}

/// Partitions of a consumer, and the changes of its assignment that are not complete yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// Partitions that are read, with their epochs.
    read: BTreeMap<i32, u64>,
    changes: VecDeque<Change>,
    pending: Option<Pending>,
    to_seek: Vec<i32>,
    last_epoch: u64,
    uncertain: bool,
}

impl Assignment {
    /// Returns the assignment under which a partition is read, or `None` if it is not read.
    #[must_use]
    pub fn epoch(&self, partition: i32) -> Option<u64> {
        self.read.get(&partition).copied()
    }

    /// Returns the partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.read.keys().copied()
    }

    /// Returns true if no change of the assignment is pending and no partition has to be read again.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.uncertain && self.pending.is_none() && self.changes.is_empty() && self.to_seek.is_empty()
    }

    /// Takes an input, and adds the effects that follow from it.
    pub fn step(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Assigned(partitions) => self.changes.push_back(Change::Assign(partitions)),
            Input::Revoked(partitions) => self.changes.push_back(Change::Revoke(partitions)),
            Input::Lost(partitions) => self.changes.push_back(Change::Lose(partitions)),
            Input::Loaded(positions) => self.loaded(positions, effects),
            Input::Released => self.released(effects),
            Input::Sought(outcome) => self.sought(outcome, effects),
            Input::Moved { partition, epoch } => self.moved(partition, epoch, effects),
            Input::Uncertain => self.uncertain = true,
            Input::ClientReplaced => self.replace_client(effects),
        }
        while self.pending.is_none() && self.begin_next(effects) {}
    }

    /// Begins the next change. Returns false if there is none.
    ///
    /// Changes of the group come first: the group waits for the answer to each. A check of all positions follows once
    /// the writers have released the in-flight records, because a position in PostgreSQL is current only then.
    fn begin_next(&mut self, effects: &mut Vec<Effect>) -> bool {
        if let Some(change) = self.changes.pop_front() {
            self.begin(change, effects);
        } else if std::mem::take(&mut self.uncertain) {
            let partitions = self.read.keys().copied().collect();
            self.release(partitions, AfterRelease::Seek, effects);
        } else if self.to_seek.is_empty() {
            return false;
        } else {
            effects.push(Effect::Load(std::mem::take(&mut self.to_seek)));
            self.pending = Some(Pending::Locating);
        }
        true
    }

    fn begin(&mut self, change: Change, effects: &mut Vec<Effect>) {
        match change {
            Change::Assign(partitions) => {
                effects.push(Effect::Load(partitions));
                self.pending = Some(Pending::Assigning);
            }
            Change::Revoke(partitions) => self.release(partitions, AfterRelease::Unassign, effects),
            Change::Lose(partitions) => {
                self.lose(partitions.clone(), effects);
                effects.push(Effect::Unassign { partitions, lost: true });
            }
        }
    }

    /// Drops partitions without waiting for records in flight: the compare-and-set of the offsets decides about batches
    /// that are already closed.
    fn lose(&mut self, partitions: Vec<i32>, effects: &mut Vec<Effect>) {
        self.forget(&partitions, effects);
        effects.extend(partitions.iter().map(|partition| Effect::DropRecords(*partition)));
        effects.push(Effect::Release { partitions, awaited: false });
    }

    fn release(&mut self, partitions: Vec<i32>, then: AfterRelease, effects: &mut Vec<Effect>) {
        self.forget(&partitions, effects);
        effects.push(Effect::CloseBatches);
        effects.push(Effect::Release { partitions: partitions.clone(), awaited: true });
        self.pending = Some(Pending::Releasing(partitions, then));
    }

    fn forget(&mut self, partitions: &[i32], effects: &mut Vec<Effect>) {
        self.to_seek.retain(|partition| !partitions.contains(partition));
        if !mutated(Mutant::RevokedStillRead) {
            self.read.retain(|partition, _| !partitions.contains(partition));
            effects.extend(partitions.iter().map(|partition| Effect::StopReading(*partition)));
        }
    }

    fn loaded(&mut self, positions: BTreeMap<i32, Position>, effects: &mut Vec<Effect>) {
        match self.pending.take() {
            Some(Pending::Assigning) => {
                let offsets = positions.iter().map(|(partition, position)| (*partition, position.next_offset));
                let assign = Effect::Assign(offsets.collect());
                // A partition needs its reader before Kafka delivers records.
                let (first, then) =
                    if mutated(Mutant::AssignedBeforeOwned) { (Some(assign), None) } else { (None, Some(assign)) };
                effects.extend(first);
                for (partition, position) in positions {
                    self.own(partition, position, effects);
                }
                effects.extend(then);
            }
            Some(Pending::Locating) => self.seek_next(positions, effects),
            other => self.pending = other,
        }
    }

    /// Seeks in the first of these partitions, if there is one.
    fn seek_next(&mut self, mut positions: BTreeMap<i32, Position>, effects: &mut Vec<Effect>) {
        if let Some((partition, position)) = positions.pop_first() {
            effects.push(Effect::Seek { partition, next_offset: position.next_offset });
            self.pending = Some(Pending::Seeking(partition, position, positions));
        }
    }

    fn sought(&mut self, outcome: SeekOutcome, effects: &mut Vec<Effect>) {
        let (partition, position, later) = match self.pending.take() {
            Some(Pending::Seeking(partition, position, later)) => (partition, position, later),
            other => {
                self.pending = other;
                return;
            }
        };
        match outcome {
            SeekOutcome::Done => self.own(partition, position, effects),
            SeekOutcome::Failed if !mutated(Mutant::SeekNotRepeated) => self.to_seek.push(partition),
            SeekOutcome::Failed | SeekOutcome::Unassigned => {}
        }
        self.seek_next(later, effects);
    }

    fn released(&mut self, effects: &mut Vec<Effect>) {
        match self.pending.take() {
            Some(Pending::Releasing(partitions, AfterRelease::Unassign)) => {
                effects.push(Effect::Unassign { partitions, lost: false });
            }
            Some(Pending::Releasing(partitions, AfterRelease::Seek)) => self.to_seek.extend(partitions),
            other => self.pending = other,
        }
    }

    /// Begins a new assignment of a partition. Its open records belong to the former one: they may overlap the position.
    fn own(&mut self, partition: i32, position: Position, effects: &mut Vec<Effect>) {
        if !mutated(Mutant::EpochReused) || self.last_epoch == 0 {
            self.last_epoch += 1;
        }
        self.read.insert(partition, self.last_epoch);
        if !mutated(Mutant::OpenRecordsKept) {
            effects.push(Effect::DropRecords(partition));
        }
        effects.push(Effect::Own { partition, epoch: self.last_epoch, position });
    }

    /// Drops the records of a partition and reads it again from its offset in PostgreSQL. A report of an earlier
    /// assignment is ignored, because its records were dropped already.
    fn moved(&mut self, partition: i32, epoch: u64, effects: &mut Vec<Effect>) {
        if self.epoch(partition) == Some(epoch) && !mutated(Mutant::MovedIgnored) {
            self.read.remove(&partition);
            self.to_seek.push(partition);
            effects.push(Effect::StopReading(partition));
            effects.push(Effect::DropRecords(partition));
        }
    }

    /// Drops all partitions and changes of the former client. The epochs continue, because its batches may still be in
    /// flight.
    fn replace_client(&mut self, effects: &mut Vec<Effect>) {
        let partitions = self.read.keys().chain(&self.to_seek).copied().collect();
        self.lose(partitions, effects);
        let kept = std::mem::take(self);
        self.last_epoch = kept.last_epoch;
        if mutated(Mutant::PendingChangeKept) {
            self.pending = kept.pending;
        } else if mutated(Mutant::QueuedChangesKept) {
            self.changes = kept.changes;
        }
    }
}
