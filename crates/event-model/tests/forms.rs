//! An event survives a round trip through each of its formats.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::borrow::Cow;

use event_model::{
    COPY_COLUMNS, EventColumns, FIELD_NAMES, FIELDS, Field, FieldKind, ProductEvent, Timestamp, Window, arrow_schema,
    column_defaults, dictionary_columns, parse, read_batch, read_copy_row,
};
use proptest::prelude::*;
use serde_json::Value;
use support::events;
use uuid::Uuid;

/// Reads a row of a binary COPY as specified in PostgreSQL's manual, independently of the code under test.
fn read_row_by_the_manual(mut row: &[u8]) -> Value {
    fn take<'a>(row: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = row.split_at(length);
        *row = rest;
        taken
    }
    assert_eq!(usize::from(u16::from_be_bytes(take(&mut row, 2).try_into().unwrap())), FIELDS.len());
    let mut value = |field: &Field| -> Value {
        let length = i32::from_be_bytes(take(&mut row, 4).try_into().unwrap());
        let bytes = take(&mut row, usize::try_from(length).unwrap());
        match field.kind {
            FieldKind::Uuid => Uuid::from_slice(bytes).unwrap().to_string().into(),
            FieldKind::Timestamp => {
                let micros = i64::from_be_bytes(bytes.try_into().unwrap()) + 946_684_800_000_000;
                Timestamp::from_micros(micros).to_string().into()
            }
            FieldKind::Integer => i32::from_be_bytes(bytes.try_into().unwrap()).into(),
            FieldKind::EventType | FieldKind::Text => str::from_utf8(bytes).unwrap().into(),
        }
    };
    let event = FIELDS.iter().map(|field| (field.name.to_owned(), value(field))).collect();
    assert!(row.is_empty());
    Value::Object(event)
}

proptest! {
    #[test]
    fn json(event in events()) {
        let mut text = Vec::new();
        event.write_json(&mut text);
        prop_assert_eq!(&text, &serde_json::to_vec(&event).unwrap());
        prop_assert_eq!(parse(Some(&text), None, Window::default()), Ok(event));
    }

    #[test]
    fn json_with_what_has_to_be_escaped(event in events(), category in r#"[\x00-\x1f"\\\x7fa]{0,9}"#) {
        let event = ProductEvent { category: category.into(), ..event };
        let mut text = b"before".to_vec();
        event.write_json(&mut text);
        prop_assert_eq!(text.strip_prefix(b"before").unwrap(), serde_json::to_vec(&event).unwrap());
    }

    #[test]
    fn json_with_white_space_unknown_fields_escapes_and_another_order(event in events(), seed in any::<u64>()) {
        let mut members: Vec<String> = serde_json::to_value(&event)
            .unwrap()
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(text) => {
                    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat();
                    format!("\"{name}\" : \"{units}\"")
                }
                None => format!("\"{name}\":\t{value}"),
            })
            .collect();
        members.push("\"newer\": {\"a\": [1e999, null, {}]}".to_owned());
        let places = members.len();
        members.rotate_left(usize::try_from(seed % places as u64).unwrap());
        let text = format!(" {{ {} }}\r\n", members.join(" ,\n"));
        prop_assert_eq!(parse(Some(text.as_bytes()), None, Window::default()), Ok(event), "{}", text);
    }

    #[test]
    fn copy_row(event in events()) {
        let mut row = Vec::new();
        event.write_copy_row(&mut row);
        prop_assert_eq!(read_row_by_the_manual(&row), serde_json::to_value(&event).unwrap());
        prop_assert_eq!(read_copy_row(&row), Some(event));
        row.pop();
        prop_assert_eq!(read_copy_row(&row), None);
    }

    #[test]
    fn arrow_columns(all in prop::collection::vec(events(), 0..20)) {
        let mut columns = EventColumns::with_capacity(all.len());
        for event in &all {
            columns.append(event);
        }
        prop_assert_eq!(columns.len(), all.len());
        let batch = columns.finish();
        prop_assert!(columns.is_empty());
        let read: Vec<ProductEvent<'_>> = read_batch(&batch).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, all);
    }
}

#[test]
fn an_event_without_escapes_borrows_its_texts() {
    let text = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_timestamp":"2026-11-22T09:30:00+01:00","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}"#;
    let event = parse(Some(text), None, Window::default()).unwrap();
    assert!(matches!((&event.category, &event.experiment_id), (Cow::Borrowed("tools"), Cow::Borrowed("exp_1"))));
    assert_eq!(event.event_timestamp.to_string(), "2026-11-22T08:30:00.000000Z");
}

#[test]
fn a_row_with_a_time_that_no_event_has_is_refused() {
    let text = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_timestamp":"9999-12-31T23:59:59.999999Z","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}"#;
    let mut row = Vec::new();
    parse(Some(text), None, Window::default()).unwrap().write_copy_row(&mut row);
    // The number of fields, the length and the bytes of the ID, and the length of the time precede it.
    let time = 2 + 4 + 16 + 4..2 + 4 + 16 + 4 + 8;
    let latest = i64::from_be_bytes(row[time.clone()].try_into().unwrap());
    assert!(read_copy_row(&row).is_some());
    for micros in [latest + 1, i64::MAX, i64::MIN] {
        row[time.clone()].copy_from_slice(&micros.to_be_bytes());
        assert_eq!(read_copy_row(&row), None, "{micros}");
    }
}

#[test]
fn columns_of_another_shape_are_refused() {
    let batch = EventColumns::with_capacity(0).finish();
    assert_eq!(batch.schema(), arrow_schema());
    let others: Vec<usize> = (1..batch.num_columns()).collect();
    let error = read_batch(&batch.project(&others).unwrap()).err().unwrap();
    assert_eq!(error.to_string(), "column event_id is missing");
}

#[test]
fn names_stand_in_one_order_everywhere() {
    let schema = arrow_schema();
    let arrow: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(arrow, FIELD_NAMES);
    assert_eq!(COPY_COLUMNS.split(", ").collect::<Vec<_>>(), FIELD_NAMES);
    let original = ["event_type", "user_id", "account_id", "product_id", "category", "experiment_id"];
    assert!(dictionary_columns().collect::<Vec<_>>().starts_with(&original));
}

#[test]
fn defaults_are_valid_and_stand_in_the_schema_and_in_arrow() {
    let text = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_timestamp":"2026-11-22T09:30:00+01:00","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}"#;
    let event = parse(Some(text), None, Window::default()).unwrap();
    event.check(None, Window::default()).unwrap();
    let (values, schema) = (serde_json::to_value(&event).unwrap(), event_model::json_schema());
    let arrow = arrow_schema();
    let defaulted: Vec<&str> = FIELDS.iter().filter(|field| field.has_default).map(|field| field.name).collect();
    assert_eq!(column_defaults().iter().map(|(name, _)| *name).collect::<Vec<_>>(), defaulted);
    for (name, array) in column_defaults() {
        assert_eq!(schema["properties"][name]["default"], values[name]);
        assert_eq!((array.len(), array.data_type()), (1, arrow.field_with_name(name).unwrap().data_type()));
    }
}

#[test]
fn the_committed_json_schema_is_the_rules_own() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/product-event.schema.json");
    let generated = format!("{:#}\n", event_model::json_schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(committed, &generated).unwrap();
    }
    let text = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(text == generated, "docs/product-event.schema.json is out of date: make schema");
}
