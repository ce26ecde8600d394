//! What a run's events are, whoever makes them and in whatever order.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{HashMap, HashSet};

use event_model::{EventType, FIELD_NAMES, Reason, Window, parse};
use event_source::{Fault, FaultKind, Faults, Settings, Source, World, origin};
use proptest::prelude::*;

fn settings(seed: u64, faults: &[&str]) -> Settings {
    let shares: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        seed,
        world: World::default(),
        faults: Faults::from_shares(&shares).unwrap(),
        event_rate: "10M/day".parse().unwrap(),
        from: "2026-11-22T10:00:00Z".parse().unwrap(),
        run_id: None,
    }
}

fn source(seed: u64, faults: &[&str]) -> Source {
    Source::new(settings(seed, faults)).unwrap()
}

fn value(source: &Source, index: u64) -> Vec<u8> {
    let mut value = Vec::new();
    source.make(index).write_value(&mut value);
    value
}

/// The bytes of these events must never change without a new `GENERATION` in the settings.
#[test]
fn golden_events() {
    let source = source(7, &["invalid=20%", "corrupt=20%", "duplicate=20%"]);
    let lines: Vec<String> = [0, 1, 2, 3, 4, 5, 6, 7, 1_000_000, 68_719_476_735]
        .into_iter()
        .map(|index| {
            let fault = source.make(index).fault.map_or("sound", |fault| fault.kind().as_str());
            format!("{index} {fault} {}", value(&source, index).escape_ascii())
        })
        .collect();
    assert_eq!(lines.join("\n"), include_str!("golden_events.txt").trim_end());
}

#[test]
fn sound_events_are_valid_and_belong_to_the_run() {
    let source = source(1, &["duplicate=1%"]);
    for index in 0..20_000 {
        let generated = source.make(index);
        generated.event.check(Some(generated.due), Window::default()).unwrap();
        let value = value(&source, index);
        let read = parse(Some(&value), Some(generated.due), Window::default()).unwrap();
        assert_eq!(read, generated.event);
        assert_eq!(origin(read.event_id), Some((source.run_tag(), index)));
    }
}

#[test]
fn every_invalid_event_is_refused_for_its_own_reason_alone() {
    let source = source(2, &["invalid=100%"]);
    let mut seen = HashSet::new();
    for index in 0..20_000 {
        let generated = source.make(index);
        let Some(Fault::Invalid(breakage)) = generated.fault else {
            panic!("{:?}", generated.fault);
        };
        let value = value(&source, index);
        let text = value.escape_ascii();
        let rejection = parse(Some(&value), Some(generated.due), Window::default()).unwrap_err();
        assert_eq!(rejection.reason(), breakage.reason(), "{text}");
        assert_eq!(rejection.violations().len(), 1, "{text}: {rejection}");
        assert_eq!(rejection.violations()[0].field, Some(breakage.field()), "{text}");
        seen.insert((breakage.reason(), breakage.field()));
    }
    // Four rules that each of eight fields can break, one of three integers, four of one field and
    // three of two texts.
    assert_eq!(seen.len(), 4 * FIELD_NAMES.len() + 3 + 4 + 3 * 2);
}

#[test]
fn corrupt_bytes_are_no_event_to_anybody() {
    let source = source(3, &["corrupt=100%"]);
    let mut seen = HashSet::new();
    for index in 0..20_000 {
        assert_eq!(source.make(index).fault.map(Fault::kind), Some(FaultKind::Corrupt));
        let rejection = parse(Some(&value(&source, index)), None, Window::default()).unwrap_err();
        seen.insert(rejection.reason());
    }
    assert_eq!(seen, HashSet::from([Reason::NotUtf8, Reason::NotJson, Reason::NotAnObject]));
}

#[test]
fn a_user_keeps_its_account_and_a_product_its_category() {
    let source = source(4, &[]);
    let (mut users, mut products) = (HashSet::new(), HashSet::new());
    for index in 0..200_000 {
        let event = source.make(index).event;
        users.insert((event.user_id, event.account_id, event.experiment_id.to_string()));
        products.insert((event.product_id, event.category.to_string()));
    }
    assert_eq!((users.len(), products.len()), (1_000, 100));
}

#[test]
fn event_types_come_by_their_weights() {
    let source = source(6, &[]);
    let mut counts = HashMap::new();
    for index in 0..1_000_000 {
        *counts.entry(source.make(index).event.event_type).or_insert(0_i32) += 1;
    }
    for (event_type, per_cent) in EventType::ALL.into_iter().zip([40, 25, 20, 10, 5]) {
        let far = counts[&event_type] - per_cent * 10_000;
        assert!(far.abs() < 2_000, "{event_type:?}: {}", counts[&event_type]);
    }
}

#[test]
fn faults_leave_the_other_events_as_they_are() {
    let (clean, faulty) = (source(5, &[]), source(5, &["invalid=10%", "corrupt=10%"]));
    for index in 0..1_000 {
        let (a, b) = (clean.make(index).event, faulty.make(index).event);
        assert_eq!((a.user_id, a.product_id, a.event_type), (b.user_id, b.product_id, b.event_type));
        assert_ne!(a.event_id, b.event_id, "another run has other ids");
    }
}

proptest! {
    #[test]
    fn an_event_is_the_same_in_any_order_and_from_any_source(
        seed: u64,
        indices in prop::collection::vec(0..=event_source::MAX_INDEX >> 2, 1..50),
    ) {
        let faults = ["invalid=10%", "corrupt=10%", "duplicate=10%"];
        let one = source(seed, &faults);
        let forward: Vec<_> = indices.iter().map(|&index| one.make(index)).collect();
        let other = source(seed, &faults);
        for (&index, expected) in indices.iter().zip(&forward).rev() {
            let again = other.make(index);
            prop_assert_eq!(&again, expected);
            prop_assert_eq!(value(&one, index), value(&other, index));
        }
    }

    #[test]
    fn ids_of_different_events_differ(seed: u64, a in 0..1_u64 << 38, b in 0..1_u64 << 38) {
        prop_assume!(a != b);
        let source = source(seed, &[]);
        prop_assert_ne!(source.make(a).event.event_id, source.make(b).event.event_id);
    }
}
