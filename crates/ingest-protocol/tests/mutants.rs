//! Each mutant of the state machines has a counterexample in the model.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod model;

use std::collections::BTreeMap;

use ingest_protocol::mutants::{Mutant, activate};
use model::{Bounds, Fault};
use stateright::{Checker, HasDiscoveries, Model};

/// Returns the violated property and the length of the shortest counterexample.
fn counterexample(bounds: Bounds) -> (usize, Option<(&'static str, usize)>) {
    let checker = bounds.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries().into_iter().find(|(name, _)| *name != model::DONE);
    (checker.unique_state_count(), found.map(|(name, path)| (name, path.into_actions().len())))
}

const SMALL: Bounds =
    Bounds { consumers: 2, partitions: 1, offsets: 2, changes: 0, faults: 0, kinds: &[], liveness: false };

/// The mutants, each with bounds that are sufficient to find it.
fn mutants() -> Vec<(Mutant, Bounds)> {
    use Fault::{Kill, NoAnswer, Recreate, Replace, Seek, Truncate, Unavailable, Uncertain};
    let faults = |kinds, faults| Bounds { faults, kinds, ..SMALL };
    let changes = |changes| Bounds { changes, ..SMALL };
    let both = |kinds, faults, changes| Bounds { changes, faults, kinds, ..SMALL };
    let longer = |bounds| Bounds { offsets: 3, ..bounds };
    let live = |bounds| Bounds { liveness: true, ..bounds };
    vec![
        (Mutant::OffsetUnchecked, changes(2)),
        (Mutant::IncarnationUnchecked, longer(both(&[Recreate], 1, 1))),
        (Mutant::OpenRecordsKept, changes(2)),
        (Mutant::AssignedBeforeOwned, changes(0)),
        (Mutant::MovedIgnored, live(changes(2))),
        (Mutant::SeekNotRepeated, live(both(&[Seek, Uncertain], 2, 0))),
        (Mutant::RevokedStillRead, changes(1)),
        (Mutant::PendingChangeKept, live(faults(&[Replace], 1))),
        (Mutant::QueuedChangesKept, live(both(&[Replace], 1, 1))),
        (Mutant::NoAnswerNotInDoubt, faults(&[NoAnswer], 1)),
        (Mutant::FailedCommitNotInDoubt, faults(&[NoAnswer], 1)),
        (Mutant::SettledWithoutLastRecord, both(&[NoAnswer, Truncate], 2, 1)),
        (Mutant::SettledWithoutIncarnation, both(&[NoAnswer, Recreate], 2, 1)),
        (Mutant::FirstConflictDecides, Bounds { partitions: 2, ..both(&[NoAnswer], 1, 1) }),
        (Mutant::ConflictDropsBatch, Bounds { partitions: 2, ..both(&[NoAnswer], 0, 1) }),
        (Mutant::OwnUpdatesSettle, Bounds { partitions: 2, ..both(&[NoAnswer], 1, 1) }),
        (Mutant::DoubtForgotten, faults(&[NoAnswer, Unavailable], 2)),
        (Mutant::CommitNotNoted, changes(0)),
        (Mutant::SettlementNotNoted, faults(&[NoAnswer], 1)),
        (Mutant::FailedSessionKept, live(faults(&[Kill], 1))),
        (Mutant::ModeKept, Bounds { partitions: 2, ..changes(0) }),
        (Mutant::TopicIdUnchecked, longer(both(&[Recreate], 1, 1))),
        (Mutant::LastRecordUnchecked, longer(both(&[Truncate], 1, 1))),
    ]
}

#[test]
fn each_mutant_has_a_counterexample() {
    println!("| mutant | violated property | steps | states |\n|---|---|---|---|");
    let mut survivors = Vec::new();
    for (mutant, bounds) in mutants() {
        activate(Some(mutant));
        let (states, found) = counterexample(bounds);
        activate(None);
        match found {
            Some((property, steps)) => println!("| `{mutant:?}` | {property} | {steps} | {states} |"),
            None => survivors.push(mutant),
        }
    }
    assert_eq!(survivors, []);
    // The machines without a mutant have no counterexample within the same bounds. Two partitions are in explore.rs.
    let bounds: BTreeMap<String, Bounds> = (mutants().into_iter())
        .filter(|(_, bounds)| bounds.partitions == 1)
        .map(|(_, bounds)| (format!("{bounds:?}"), bounds))
        .collect();
    for (name, bounds) in bounds {
        assert_eq!(counterexample(bounds).1, None, "{name}");
    }
    // Each of these is one of two defenses: writers receive commands in order, and a new assignment drops open records.
    for mutant in [Mutant::EpochUnchecked, Mutant::EpochReused] {
        activate(Some(mutant));
        let (_, found) = counterexample(Bounds { changes: 2, ..SMALL });
        activate(None);
        assert_eq!(found, None, "{mutant:?}");
    }
}
