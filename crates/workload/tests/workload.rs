//! The events of a run do not depend on the order or the place in which they are generated.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use event_model::{EventType, FIELDS, Field, FieldKind, Reason, Window, parse};
use proptest::prelude::*;
use workload::{Effects, Fault, FaultKind, Faults, Settings, Shape, Source, World, decode_event_id};

fn settings(seed: u64, faults: &[&str]) -> Settings {
    let shares: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        seed,
        world: World::default(),
        effects: Effects::default(),
        faults: Faults::from_shares(&shares).unwrap(),
        event_rate: "10M/day".parse().unwrap(),
        shape: Shape::Flat,
        padding: 0,
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

/// Removes fields that have their default values, so that a new field does not change the golden events.
fn without_defaults(value: Vec<u8>) -> Vec<u8> {
    let schema = event_model::json_schema();
    let Ok(mut text) = String::from_utf8(value.clone()) else { return value };
    for field in FIELDS.iter().filter(|field| field.has_default) {
        let default = &schema["properties"][field.name]["default"];
        text = text.replace(&format!(",\"{}\":{default}", field.name), "");
    }
    text.into_bytes()
}

/// The bytes of these events must not change unless `GENERATION` in the settings is increased.
#[test]
fn golden_events() {
    let source = source(7, &["invalid=20%", "corrupt=20%", "duplicate=20%"]);
    let lines: Vec<String> = [0, 1, 2, 3, 4, 5, 6, 7, 1_000_000, 68_719_476_735]
        .into_iter()
        .map(|index| {
            let fault = source.make(index).fault.map_or("sound", |fault| fault.kind().as_str());
            format!("{index} {fault} {}", without_defaults(value(&source, index)).escape_ascii())
        })
        .collect();
    assert_eq!(lines.join("\n"), include_str!("golden_events.txt").trim_end());
}

/// First records of each kind of fault, as in `golden_events`. Long values are shown by their beginning and their
/// length.
#[test]
fn golden_faults() {
    let mut lines = Vec::new();
    for kind in FaultKind::ALL {
        let share = if kind == FaultKind::Oversize { "1%" } else { "30%" };
        let mut settings = settings(7, &[&format!("{kind}={share}")]);
        settings.padding = 20;
        let source = Source::new(settings).unwrap();
        let faulty = (2_000..).map(|index| source.make(index)).filter(|made| made.fault.map(Fault::kind) == Some(kind));
        for made in faulty.take(3) {
            let due = made.due;
            for record in std::iter::once(made.clone()).chain(source.copy_after(&made)) {
                let mut value = Vec::new();
                record.write_value(&mut value);
                let value = without_defaults(value);
                let shown = value[..value.len().min(300)].escape_ascii();
                lines.push(format!("{kind} {} due {due} {} bytes {shown}", record.index, value.len()));
            }
        }
    }
    assert_eq!(lines.join("\n"), include_str!("golden_faults.txt").trim_end());
}

/// Each letter of the padding adds one byte, and parsing ignores it.
#[test]
fn padding_is_as_long_as_asked_for_and_ignored() {
    for pad in [1, 20, 2_000, 60_000] {
        let (plain, mut settings) = (source(9, &[]), settings(9, &[]));
        settings.padding = pad;
        let padded = Source::new(settings).unwrap();
        for index in 0..100 {
            let (short, long) = (value(&plain, index), value(&padded, index));
            let due = padded.due(index);
            let read = parse(Some(&long), Some(due), Window::default()).unwrap();
            assert_eq!(read, padded.make(index).event);
            let fields: serde_json::Value = serde_json::from_slice(&long).unwrap();
            assert_eq!(fields["padding"].as_str().unwrap().len(), pad as usize);
            assert_eq!(long.len(), short.len() + r#","padding":"""#.len() + pad as usize);
            assert!(long.len() <= padded.largest_value());
        }
    }
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
        assert_eq!(decode_event_id(read.event_id), Some((source.run_tag(), index)));
    }
}

#[test]
fn every_invalid_event_is_refused_for_its_own_reason_alone() {
    let source = source(2, &["invalid=100%"]);
    let mut seen = HashSet::new();
    for index in 0..20_000 {
        let generated = source.make(index);
        let Some(Fault::Invalid(kind)) = generated.fault else {
            panic!("{:?}", generated.fault);
        };
        let value = value(&source, index);
        let text = value.escape_ascii();
        let rejection = parse(Some(&value), Some(generated.due), Window::default()).unwrap_err();
        assert_eq!(rejection.reason(), kind.reason(), "{text}");
        assert_eq!(rejection.violations().len(), 1, "{text}: {rejection}");
        assert_eq!(rejection.violations()[0].field, Some(kind.field()), "{text}");
        seen.insert((kind.reason(), kind.field()));
    }
    // Four rules for every required field, one for integers, four for one field each and three for texts.
    let required = |of: fn(&Field) -> bool| FIELDS.iter().filter(|field| !field.has_default && of(field)).count();
    let integers = required(|field| field.kind == FieldKind::Integer);
    let texts = required(|field| field.kind == FieldKind::Text);
    assert_eq!(seen.len(), 4 * required(|_| true) + integers + 4 + 3 * texts);
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

/// Each start draws another seed by default. Runs must nevertheless agree on their users and products.
#[test]
fn runs_of_different_seeds_agree_on_the_world() {
    let attributes = |source: &Source| {
        let events = (0..200_000).map(|index| source.make(index).event);
        let attributes = events.map(|event| {
            let user = (event.user_id, event.account_id, event.experiment_id.into_owned());
            (user, (event.product_id, event.category.into_owned()))
        });
        attributes.unzip::<_, _, HashSet<_>, HashSet<_>>()
    };
    let (one, other) = (source(4, &[]), source(5, &[]));
    assert_eq!(attributes(&one), attributes(&other));
    assert!((0..100).any(|index| one.make(index).event.user_id != other.make(index).event.user_id));
    let mut elsewhere = settings(4, &[]);
    elsewhere.world.seed += 1;
    assert_ne!(attributes(&one), attributes(&Source::new(elsewhere).unwrap()));
}

#[test]
fn sessions_of_a_user_begin_with_a_search_and_never_overlap() {
    let source = source(6, &[]);
    let mut last: HashMap<i32, (EventType, i32)> = HashMap::new();
    for index in 0..200_000 {
        let event = source.make(index).event;
        let (this, user) = (event.event_type, event.user_id);
        let before = last.insert(user, (this, event.product_id));
        match (before, this) {
            (_, EventType::SearchPerformed)
            | (Some((EventType::SearchPerformed | EventType::ProductViewed, _)), EventType::RecommendationClicked) => {}
            (Some((EventType::SearchPerformed | EventType::ProductViewed, product)), EventType::ResultClicked)
            | (
                Some((EventType::ResultClicked | EventType::RecommendationClicked, product)),
                EventType::ProductViewed,
            )
            | (Some((EventType::ProductViewed, product)), EventType::RfqSent) => {
                assert_eq!(event.product_id, product, "{index}");
            }
            other => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!(last.len(), 1_000);
}

/// Compares counted events with the computed statistics.
#[test]
fn the_description_is_true() {
    for (seed, effects) in [(6, vec![]), (7, vec!["exp_3=+40%", "exp_5=-50%"])] {
        let effects: Vec<_> = effects.into_iter().map(|text| text.parse().unwrap()).collect();
        let mut settings = settings(seed, &[]);
        settings.effects = Effects::new(&effects).unwrap();
        let source = Source::new(settings).unwrap();
        let description = source.describe();
        let mut counts: HashMap<(String, EventType), f64> = HashMap::new();
        let mut users: HashMap<i32, f64> = HashMap::new();
        for index in 0..1_000_000 {
            let event = source.make(index).event;
            *counts.entry(("all".to_owned(), event.event_type)).or_default() += 1.0;
            *counts.entry((event.experiment_id.to_string(), event.event_type)).or_default() += 1.0;
            *users.entry(event.user_id).or_default() += 1.0;
        }
        for group in std::iter::once(&description.all).chain(&description.experiments) {
            for event_type in EventType::ALL {
                let expected = group.types[event_type as usize] * 1e6;
                let found = counts[&(group.name.clone(), event_type)];
                // Events of one session are correlated, so the counts vary slightly more than Poisson's.
                assert!(
                    (found - expected).abs() < 6.0 * expected.sqrt() + 1.0,
                    "{} {event_type}: {found} of {expected}",
                    group.name
                );
            }
        }
        let mut users: Vec<f64> = users.into_values().collect();
        users.sort_unstable_by(|a, b| b.total_cmp(a));
        for (found, group) in users.chunks(100).zip(&description.user_deciles) {
            let (found, expected) = (found.iter().sum::<f64>(), group.share * 1e6);
            // Membership in a decile is subject to chance too.
            assert!((found - expected).abs() < 0.1 * expected, "decile {}: {found} of {expected}", group.name);
        }
    }
}

#[test]
fn an_effect_changes_conversion_and_nothing_before_it() {
    let mut settings = settings(8, &[]);
    let plain = Source::new(settings.clone()).unwrap().describe();
    settings.effects = Effects::new(&["exp_3=+15%".parse().unwrap()]).unwrap();
    let with = Source::new(settings).unwrap().describe();
    let rates = |of: usize| (plain.experiments[of].rfq_per_view, with.experiments[of].rfq_per_view);
    let (before, after) = rates(2);
    assert!((after / before - 1.15).abs() < 0.01, "{before} {after}");
    let (before, after) = rates(3);
    assert!((after / before - 1.0).abs() < 0.001, "{before} {after}");
    assert!((with.all.share - 1.0).abs() < 1e-9);
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
        indices in prop::collection::vec(0..=workload::MAX_INDEX >> 2, 1..50),
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
