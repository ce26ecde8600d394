//! Explores the states of the model within small bounds, and within large ones on request (`make model`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod model;

use std::time::Instant;

use model::Fault::{
    Crash, Kill, NoAnswer, Promote, Recreate, ReleaseTimeout, Replace, Seek, Truncate, Unavailable, Uncertain,
};
use model::{Bounds, DONE, Fault};
use stateright::{Checker, HasDiscoveries, Model};

/// Explores all states, and fails with the shortest counterexample.
fn explore(name: &str, bounds: Bounds) {
    let began = Instant::now();
    let checker = bounds.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, depth {depth}, {:.1?}", began.elapsed());
    if let Some((property, path)) = checker.discoveries().into_iter().find(|(property, _)| *property != DONE) {
        panic!("{name}: {property}\n{:#?}", path.into_actions());
    }
    assert!(checker.discovery(DONE).is_some(), "{name}: no run settles all records");
}

const SMALL: Bounds =
    Bounds { consumers: 2, partitions: 1, offsets: 2, changes: 1, faults: 1, kinds: &[], liveness: false };

const ALL: &[Fault] =
    &[Crash, Kill, NoAnswer, Promote, Recreate, ReleaseTimeout, Replace, Seek, Truncate, Unavailable, Uncertain];

#[test]
fn sessions() {
    explore("sessions", Bounds { offsets: 3, faults: 2, kinds: &[NoAnswer, Kill, Unavailable], ..SMALL });
}

#[test]
fn assignments() {
    explore("assignments", Bounds { changes: 2, faults: 0, ..SMALL });
}

#[test]
fn assignments_with_faults() {
    explore("assignments with faults", Bounds { kinds: &[ReleaseTimeout, Uncertain, Seek, Replace], ..SMALL });
}

#[test]
fn failover() {
    explore("failover", Bounds { kinds: &[Promote, NoAnswer, Crash], ..SMALL });
}

#[test]
fn topics() {
    explore("topics", Bounds { kinds: &[Recreate, Truncate], ..SMALL });
}

#[test]
fn recreated_in_doubt() {
    explore("recreated in doubt", Bounds { faults: 2, kinds: &[Recreate, NoAnswer], ..SMALL });
}

#[test]
fn two_partitions() {
    explore("two partitions", Bounds { partitions: 2, changes: 0, kinds: &[NoAnswer, Kill, Unavailable], ..SMALL });
}

#[test]
fn recovery() {
    explore("recovery", Bounds { kinds: ALL, liveness: true, ..SMALL });
}

#[test]
#[ignore = "takes minutes"]
fn large_assignments() {
    explore("large: assignments", Bounds { changes: 2, kinds: &[ReleaseTimeout, Uncertain, Seek, Replace], ..SMALL });
}

#[test]
#[ignore = "takes minutes"]
fn large_topics() {
    explore("large: topics", Bounds { offsets: 3, kinds: &[Recreate, Truncate], ..SMALL });
}

#[test]
#[ignore = "takes minutes"]
fn large_topics_in_doubt() {
    explore(
        "large: topics in doubt",
        Bounds { offsets: 3, faults: 2, kinds: &[Recreate, Truncate, NoAnswer], ..SMALL },
    );
}

#[test]
#[ignore = "takes minutes"]
fn large_failover() {
    explore("large: failover", Bounds { faults: 2, kinds: &[Promote, NoAnswer, Crash], ..SMALL });
}

#[test]
#[ignore = "takes minutes"]
fn large_two_partitions() {
    explore("large: two partitions", Bounds { partitions: 2, offsets: 3, kinds: &[NoAnswer], ..SMALL });
}

#[test]
#[ignore = "takes minutes"]
fn large_three_consumers() {
    explore("large: three consumers", Bounds { consumers: 3, changes: 2, kinds: &[NoAnswer, Crash], ..SMALL });
}
