//! A source of events for unit tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use workload::{Effects, Faults, Settings, Shape, Source, World};

/// Returns a source with the given faults, such as `invalid=5%`. Its first events lie shortly before a full hour.
pub(crate) fn source(faults: &[&str]) -> Source {
    let shares: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
    Source::new(Settings {
        seed: 7,
        world: World::default(),
        effects: Effects::default(),
        faults: Faults::from_shares(&shares).unwrap(),
        event_rate: "10M/day".parse().unwrap(),
        shape: Shape::Flat,
        padding: 0,
        from: "2026-11-22T09:59:50Z".parse().unwrap(),
        run_id: None,
    })
    .unwrap()
}
