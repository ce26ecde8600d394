//! Explores the states of the model within small bounds, and within large ones on request (`make model`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod model;

use std::time::Instant;

use model::Fault::{
    Crash, Kill, NoAnswer, Promote, Recreate, ReleaseTimeout, Replace, Seek, Truncate, Unavailable, Uncertain,
};
use model::{Bounds, DONE};
use stateright::{Checker, HasDiscoveries, Model};

/// Explores all states, and fails with the shortest counterexample.
fn explore(name: &str, bounds: Bounds) {
    let began = Instant::now();
    let n = std::env::var("N").map_or(1_000_000, |t| t.parse().unwrap());
    let checker =
        bounds.clone().checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(n).spawn_bfs().join();
    println!(
        "{name}: {} states, depth {}, {:.1?}, {bounds:?}",
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    if let Some((property, path)) = checker.discoveries().into_iter().find(|(property, _)| *property != DONE) {
        panic!("{name}: {property}\n{:#?}", path.into_actions());
    }
    assert!(checker.discovery(DONE).is_some(), "{name}: no run to the end");
}

const SMALL: Bounds =
    Bounds { consumers: 2, partitions: 1, offsets: 3, changes: 1, faults: 1, kinds: &[], liveness: false };

#[test]
fn commits_and_sessions() {
    explore("commits_and_sessions", Bounds { kinds: &[NoAnswer, Kill, Unavailable], ..SMALL });
}

#[test]
fn two_partitions() {
    explore("two_partitions", Bounds { partitions: 2, offsets: 2, kinds: &[NoAnswer, Kill], ..SMALL });
}

#[test]
fn assignments() {
    explore("assignments", Bounds { changes: 2, kinds: &[ReleaseTimeout, Uncertain, Seek, Replace], ..SMALL });
}

#[test]
fn failover() {
    explore("failover", Bounds { kinds: &[Promote, NoAnswer, Crash], faults: 2, ..SMALL });
}

#[test]
fn topics() {
    explore("topics", Bounds { kinds: &[Recreate, Truncate, NoAnswer], faults: 2, ..SMALL });
}

#[test]
fn liveness() {
    explore(
        "liveness",
        Bounds {
            offsets: 2,
            kinds: &[Crash, Kill, NoAnswer, Promote, Recreate, ReleaseTimeout, Uncertain, Seek, Replace],
            liveness: true,
            ..SMALL
        },
    );
}
