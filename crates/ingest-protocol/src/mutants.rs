//! Deliberate mistakes in the state machines. The model has to find a counterexample for each.

/// A single change of the state machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A part is written although it was read under an earlier assignment.
    EpochUnchecked = 1,
    /// An offset moves from any value.
    OffsetUnchecked,
    /// The offset of a recreated topic moves like that of the former one.
    IncarnationUnchecked,
    /// A new assignment has the epoch of the one before.
    EpochReused,
    /// The open records of a partition survive a new assignment.
    OpenRecordsKept,
    /// Kafka delivers records before the partition has a reader.
    AssignedBeforeOwned,
    /// The report that an offset was moved has no effect.
    MovedIgnored,
    /// A failed seek is not repeated.
    SeekNotRepeated,
    /// A revoked partition is still read.
    RevokedStillRead,
    /// A new client completes the change that the former one has begun.
    PendingChangeKept,
    /// A new client processes the changes that the former one has received.
    QueuedChangesKept,
    /// A transaction without an answer counts as rolled back.
    NoAnswerNotInDoubt,
    /// A transaction that failed at COMMIT counts as rolled back.
    FailedCommitNotInDoubt,
    /// The last record does not matter for the settlement of a transaction in doubt.
    SettledWithoutLastRecord,
    /// The incarnation of the topic does not matter for the settlement of a transaction in doubt.
    SettledWithoutIncarnation,
    /// The first failed partition decides about all partitions of the batch.
    FirstConflictDecides,
    /// One moved partition drops all partitions of the batch.
    ConflictDropsBatch,
    /// The updates of the failed transaction itself count as committed.
    OwnUpdatesSettle,
    /// The next attempt ends the doubt about an earlier one.
    DoubtForgotten,
    /// A commit does not advance the position that the next batch continues from.
    CommitNotNoted,
    /// The settlement of a partition does not advance the position that the next batch continues from.
    SettlementNotNoted,
    /// The next attempt uses the session that has failed.
    FailedSessionKept,
    /// A unique violation does not change the insert mode.
    ModeKept,
    /// A topic with another ID is read from the former offsets.
    TopicIdUnchecked,
    /// A topic with another last record is read from the former offsets.
    LastRecordUnchecked,
}

#[cfg(feature = "mutants")]
mod active {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Applies a mutant, or none, to all state machines of the process.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::SeqCst);
    }

    pub(crate) fn mutated(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as u8
    }
}

#[cfg(feature = "mutants")]
pub use active::activate;
#[cfg(feature = "mutants")]
pub(crate) use active::mutated;

#[cfg(not(feature = "mutants"))]
pub(crate) const fn mutated(_: Mutant) -> bool {
    false
}
