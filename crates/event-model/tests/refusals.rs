//! Each kind of invalid value is rejected with its reason.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use event_model::{
    Bounds, FIELDS, Field, FieldKind, MAX_VALUE_BYTES, ProductEvent, Reason, Timestamp, Violation, Window, parse,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::events;

/// Returns a valid event with all fields.
fn valid() -> Map<String, Value> {
    let event = json!({
        "event_id": "01890a5d-ac96-774b-bcce-b302099a8057", "event_timestamp": "2026-11-22T09:30:00Z",
        "event_type": "rfq_sent", "user_id": 1, "account_id": 2, "product_id": 3, "category": "tools", "experiment_id": "exp_1"
    });
    let event = serde_json::to_value(serde_json::from_str::<ProductEvent>(&event.to_string()).unwrap()).unwrap();
    event.as_object().unwrap().clone()
}

fn fields(kind: FieldKind) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| field.kind == kind)
}

fn with(field: &str, value: Value) -> Vec<u8> {
    let mut event = valid();
    event.insert(field.to_owned(), value);
    serde_json::to_vec(&event).unwrap()
}

/// Returns the valid event as JSON with a part of the text replaced.
fn replaced(what: &str, with: &str) -> Vec<u8> {
    let text = serde_json::to_string(&valid()).unwrap();
    assert!(text.contains(what), "{what}");
    text.replace(what, with).into_bytes()
}

fn violations(value: &[u8]) -> Vec<(Reason, Option<&'static str>)> {
    match parse(Some(value), None, Window::default()) {
        Ok(_) => Vec::new(),
        Err(rejection) => rejection.violations().iter().map(|one| (one.reason, one.field)).collect(),
    }
}

#[test]
fn whole_values() {
    let long = format!("{{\"pad\":\"{}\"}}", "x".repeat(MAX_VALUE_BYTES));
    let cases: &[(&[u8], Reason)] = &[
        (b"", Reason::EmptyValue),
        (long.as_bytes(), Reason::ValueTooLarge),
        (b"{\"user_id\":\"\xff\"}", Reason::NotUtf8),
        (b"{\"unknown\":\"\xff\"}", Reason::NotUtf8),
        (b"\xef\xbb\xbf{}", Reason::NotJson),
        (b" ", Reason::NotJson),
        (b"{", Reason::NotJson),
        (b"{} {}", Reason::NotJson),
        (b"{\"user_id\":01}", Reason::NotJson),
        (b"{\"user_id\":NaN}", Reason::NotJson),
        (b"[1, 2", Reason::NotJson),
        (b"null", Reason::NotAnObject),
        (b"[]", Reason::NotAnObject),
        (b" \"text\" ", Reason::NotAnObject),
        (b"42", Reason::NotAnObject),
    ];
    for (value, reason) in cases {
        assert_eq!(violations(value), [(*reason, None)], "{}", String::from_utf8_lossy(value));
    }
    assert_eq!(parse(None, None, Window::default()).unwrap_err().reason(), Reason::EmptyValue);
    let array = serde_json::to_vec(&valid().values().collect::<Vec<_>>()).unwrap();
    assert_eq!(violations(&array), [(Reason::NotAnObject, None)]);
}

#[test]
fn the_largest_value_is_accepted() {
    let mut event = valid();
    event.insert("pad".into(), json!(""));
    let missing = MAX_VALUE_BYTES - serde_json::to_vec(&event).unwrap().len();
    event.insert("pad".into(), json!("x".repeat(missing)));
    let value = serde_json::to_vec(&event).unwrap();
    assert_eq!((value.len(), violations(&value)), (MAX_VALUE_BYTES, vec![]));
}

#[test]
fn values_of_fields() {
    let of = |field: &'static str, reason| vec![(reason, Some(field))];
    for Field { name: field, has_default, .. } in FIELDS {
        let mut absent = valid();
        absent.remove(*field);
        let missing = if *has_default { vec![] } else { of(field, Reason::MissingField) };
        assert_eq!(violations(&serde_json::to_vec(&absent).unwrap()), missing);
        assert_eq!(violations(&with(field, Value::Null)), of(field, Reason::NullField));
        for other in [json!(true), json!([]), json!({}), json!(1.5)] {
            assert_eq!(violations(&with(field, other)), of(field, Reason::WrongType));
        }
        let twice = replaced("{", &format!("{{\"{field}\":{},", valid()[*field]));
        assert_eq!(violations(&twice), of(field, Reason::DuplicateKey));
        let other = if valid()[*field].is_string() { json!(7) } else { json!("7") };
        assert_eq!(violations(&with(field, other)), of(field, Reason::WrongType));
    }
    for field in fields(FieldKind::Integer) {
        let (Bounds { min, max }, field) = (field.range(), field.name);
        let (below, above) = ((min - 1).to_string(), (max + 1).to_string());
        let mut wrong = vec![&*below, &*above, "3000000000", "-9223372036854775809", "100000000000000000000000000"];
        if min > 0 {
            wrong.extend(["0", "-1", "-0"]);
        }
        for number in wrong {
            let value = serde_json::to_string(&with_marker(field)).unwrap().replace("\"#\"", number);
            assert_eq!(violations(value.as_bytes()), of(field, Reason::OutOfRange), "{number}");
        }
        for number in ["1.0", "1e2", "1E0", "1e999", "100000000000000000000000000.5"] {
            let value = serde_json::to_string(&with_marker(field)).unwrap().replace("\"#\"", number);
            assert_eq!(violations(value.as_bytes()), of(field, Reason::WrongType), "{number}");
        }
        assert_eq!(violations(&with(field, json!(min))), []);
        assert_eq!(violations(&with(field, json!(max))), []);
    }
    for field in fields(FieldKind::Text) {
        let (Bounds { min, max }, field) = (field.length(), field.name);
        let max = usize::try_from(max).unwrap();
        let empty = if min > 0 { of(field, Reason::TextEmpty) } else { vec![] };
        assert_eq!(violations(&with(field, json!(""))), empty);
        assert_eq!(violations(&with(field, json!("é".repeat(max + 1)))), of(field, Reason::TextTooLong));
        assert_eq!(violations(&with(field, json!("🦀".repeat(max)))), []);
        for control in ["\0", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(violations(&with(field, json!(control))), of(field, Reason::TextControlCharacters));
        }
        let half = replaced(&format!("\"{field}\":{}", valid()[field]), &format!("\"{field}\":\"\\ud800\""));
        assert_eq!(violations(&half), of(field, Reason::NotJson));
    }
    for id in [
        "",
        "x",
        "01890a5dac96774bbcceb302099a8057",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "01890a5d-ac96-774b-bcce-b302099a805g",
    ] {
        assert_eq!(violations(&with("event_id", json!(id))), of("event_id", Reason::BadUuid), "{id}");
    }
    assert_eq!(violations(&with("event_id", json!("9F3C0B1E-3C5A-4D9B-8E0F-0123456789AB"))), []);
    assert_eq!(violations(&with("event_timestamp", json!("yesterday"))), of("event_timestamp", Reason::BadTimestamp));
    assert_eq!(violations(&with("event_type", json!("Rfq_sent"))), of("event_type", Reason::UnknownEventType));
}

fn with_marker(field: &str) -> Map<String, Value> {
    let mut event = valid();
    event.insert(field.to_owned(), json!("#"));
    event
}

#[test]
fn all_that_is_wrong_is_named_in_the_order_of_precedence() {
    let mut event = valid();
    event.remove("user_id");
    event.insert("category".into(), json!("\u{1}".repeat(65)));
    event.insert("event_type".into(), json!("?"));
    event.insert("product_id".into(), json!(0));
    let value = serde_json::to_vec(&event).unwrap();
    let rejection = parse(Some(&value), None, Window::default()).unwrap_err();
    let expected = [
        (Reason::MissingField, "user_id"),
        (Reason::OutOfRange, "product_id"),
        (Reason::UnknownEventType, "event_type"),
        (Reason::TextTooLong, "category"),
        (Reason::TextControlCharacters, "category"),
    ];
    assert_eq!(rejection.violations(), expected.map(|(reason, field)| Violation { reason, field: Some(field) }));
    assert!(rejection.to_string().starts_with("user_id: a required field is missing; product_id: "));
}

#[test]
fn the_window_is_around_the_records_own_time() {
    let value = serde_json::to_vec(&valid()).unwrap();
    let event: Timestamp = "2026-11-22T09:30:00Z".parse().unwrap();
    let day = 86_400_000_000;
    let result_of = |record: i64| {
        parse(Some(&value), Some(Timestamp::from_micros(record)), Window::default()).map_err(|error| error.reason())
    };
    for inside in [event.micros(), event.micros() - day, event.micros() + 400 * day] {
        assert!(result_of(inside).is_ok());
    }
    for outside in [event.micros() - day - 1, event.micros() + 400 * day + 1, i64::MIN, i64::MAX] {
        assert_eq!(result_of(outside), Err(Reason::TimestampOutsideWindow));
    }
}

#[test]
fn the_present_bounds_what_a_record_claims() {
    let value = serde_json::to_vec(&valid()).unwrap();
    let event: Timestamp = "2026-11-22T09:30:00Z".parse().unwrap();
    let day = 86_400_000_000;
    let result_of = |record: Option<i64>, present: i64| {
        let window = Window::default().at(Timestamp::from_micros(present));
        let record = record.map(Timestamp::from_micros);
        parse(Some(&value), record, window).map(drop).map_err(|error| error.to_string())
    };
    let at = event.micros();
    // The past is relative to the record's timestamp, regardless of its age.
    assert_eq!(result_of(Some(at), at + 5_000 * day), Ok(()));
    assert!(result_of(Some(at + 400 * day + 1), at + 5_000 * day).is_err());
    // The future is relative to the present if the record's timestamp is later.
    assert_eq!(result_of(Some(at), at - day), Ok(()));
    assert!(result_of(Some(at), at - day - 1).is_err());
    for claimed in [at + 401 * day, 1_769_000_000_000_000_000, i64::MAX] {
        assert!(result_of(Some(claimed), at).is_err());
    }
    // Without a timestamp both bounds are relative to the present.
    assert_eq!((result_of(None, at - day), result_of(None, at + 400 * day)), (Ok(()), Ok(())));
    assert!(result_of(None, at - day - 1).is_err());
    let expected = "event_timestamp: the event is too far before or after the timestamp of its record \
                    (event 2026-11-22T09:30:00.000000Z, record without a timestamp)";
    assert_eq!(result_of(None, at + 400 * day + 1).unwrap_err(), expected);
    let said = result_of(Some(1_769_000_000_000_000_000), at).unwrap_err();
    assert!(said.ends_with("record +58027-05-19T00:53:20.000000Z)"), "{said}");
}

#[test]
fn codes_are_unique_and_read_back() {
    for reason in Reason::ALL {
        assert_eq!(reason.code().parse(), Ok(*reason));
    }
    assert!(Reason::ALL.is_sorted());
}

proptest! {
    #[test]
    fn checked_in_memory_as_when_read(mut event in events(), user_id in any::<i32>(), text in "\\PC{0,70}|\\p{Cc}{1,3}") {
        event.user_id = user_id;
        event.category = text.into();
        let mut value = Vec::new();
        event.write_json(&mut value);
        let read = parse(Some(&value), None, Window::default()).map(drop);
        prop_assert_eq!(read, event.check(None, Window::default()));
    }
}
