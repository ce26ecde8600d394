//! Round trips of Parquet files, and the rejection of files of other formats.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use event_model::{ArrowFormError, EventColumns, ProductEvent, Reason, Window, parse, read_batch};
use lake::{EventFile, EventFileWriter, LakeError, QuarantineFile, QuarantineRow};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;
use proptest::prelude::*;
use support::{any_event, decode, encode, event};

fn batch(n: u64) -> RecordBatch {
    let mut columns = EventColumns::with_capacity(0);
    (0..n).for_each(|n| columns.append(&event(n, "2026-11-22T09:00:00Z")));
    columns.finish()
}

/// Encodes a file as another program might do.
fn foreign(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn columns(batch: &RecordBatch) -> Vec<(String, ArrayRef)> {
    let names = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    names.into_iter().zip(batch.columns().to_vec()).collect()
}

fn named(columns: &[(String, ArrayRef)]) -> Vec<(&str, ArrayRef)> {
    columns.iter().map(|(name, array)| (name.as_str(), Arc::clone(array))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_come_back(events in proptest::collection::vec(any_event(), 0..200)) {
        let file = encode(&events);
        prop_assert_eq!(file.rows, events.len() as u64);
        prop_assert_eq!(EventFile::open("test", file.bytes.clone()).unwrap().content_hash(), Some(file.hash));
        prop_assert_eq!(decode(file.bytes).unwrap(), events);
    }

    #[test]
    fn refused_values_come_back(rows in proptest::collection::vec(any_row(), 0..50)) {
        let file = QuarantineFile::encode(&rows).unwrap();
        let opened = QuarantineFile::open("test", file.bytes).unwrap();
        prop_assert_eq!(opened.rows(), rows.len() as u64);
        prop_assert_eq!(opened.content_hash(), Some(file.hash));
        let back: Vec<_> = opened.flat_map(Result::unwrap).collect();
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn hash_and_rows_do_not_depend_on_batches(cuts in proptest::collection::vec(0..1000_usize, 0..10)) {
        let whole = batch(1000);
        let mut cuts = cuts;
        cuts.extend([0, 1000]);
        cuts.sort_unstable();
        let mut writer = EventFileWriter::new().unwrap();
        for cut in cuts.windows(2) {
            writer.write(&whole.slice(cut[0], cut[1] - cut[0])).unwrap();
        }
        let parts = writer.finish().unwrap();
        prop_assert_eq!(parts.hash, EventFileWriter::encode(&whole).unwrap().hash);
        prop_assert_eq!(parts.rows, 1000);
    }
}

fn any_row() -> impl Strategy<Value = QuarantineRow> {
    let texts = || proptest::collection::vec("[a-z_]{0,20}", 0..4);
    (0..=u64::MAX >> 1, any::<i64>(), "(?s).{0,300}", texts(), texts()).prop_map(
        |(event_index, due, raw, reason_codes, fields)| QuarantineRow {
            event_index,
            due: event_model::Timestamp::from_micros(due),
            raw,
            reason_codes,
            fields,
        },
    )
}

#[test]
fn more_rows_than_a_row_group_come_back() {
    let events: Vec<_> = (0..300_000).map(|n| event(n, "2026-11-22T00:00:00Z")).collect();
    assert!(decode(encode(&events).bytes).unwrap() == events);
}

#[test]
fn a_refused_value_is_kept_with_all_its_reasons() {
    let value = br#"{"event_id":"x","user_id":0,"user_id":1,"extra":null}"#;
    let rejection = parse(Some(value), None, Window::default()).unwrap_err();
    let due = "2026-11-22T09:00:00Z".parse().unwrap();
    let row = QuarantineRow::new(5, due, value, &rejection);
    assert_eq!(row.raw.as_bytes(), value);
    assert_eq!(row.reason_codes.len(), rejection.violations().len());
    assert_eq!(row.reason_codes[0], rejection.reason().code());
    assert_eq!(row.fields.iter().filter(|&field| field == "user_id").count(), 1);
    assert!(row.fields.iter().any(|field| field == "event_id"));

    let rejection = parse(Some(b"\xff{"), None, Window::default()).unwrap_err();
    let row = QuarantineRow::new(6, due, b"\xff{", &rejection);
    assert_eq!((row.raw.as_str(), row.fields.len()), ("\u{fffd}{", 0));
    assert_eq!(row.reason_codes, [Reason::NotUtf8.code()]);
}

#[test]
fn further_columns_and_another_order_do_not_matter() {
    let batch = batch(10);
    let mut columns = columns(&batch);
    columns.reverse();
    columns.insert(3, ("added_later".to_owned(), Arc::new(Int64Array::from_iter_values(0..10))));
    let expected: Vec<_> = (0..10).map(|n| event(n, "2026-11-22T09:00:00Z")).collect();
    let file = foreign(named(&columns));
    assert_eq!(EventFile::open("test", file.clone()).unwrap().content_hash(), None);
    assert_eq!(decode(file).unwrap(), expected);
}

#[test]
fn a_missing_column_is_left_to_the_events_own_defaults() {
    let mut columns = columns(&batch(10));
    columns.remove(6);
    let mut file = EventFile::open("test", foreign(named(&columns))).unwrap();
    let batch = file.next().unwrap().unwrap();
    assert_eq!(read_batch(&batch).err(), Some(ArrowFormError::Missing("category")));
}

#[test]
fn what_is_not_our_file_is_refused_by_its_key() {
    let whole = EventFileWriter::encode(&batch(1000)).unwrap().bytes;
    let other_type: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let other_columns: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (bytes, part) in [
        (Bytes::new(), ""),
        (Bytes::from_static(b"{\"event_id\": 1}"), ""),
        (whole.slice(..whole.len() - 1), ""),
        (foreign(vec![("user_id", other_type)]), "user_id"),
        (foreign(vec![("n", other_columns)]), "none of the expected columns"),
    ] {
        let error = EventFile::open("raw/x.parquet", bytes).err().unwrap();
        assert!(matches!(error, LakeError::BadFile { .. }));
        let message = error.to_string();
        assert!(message.contains("raw/x.parquet") && message.contains(part), "{message}");
    }
}

#[test]
fn rows_other_than_those_that_were_written_are_an_error_in_the_end() {
    let batch = batch(100);
    let hash = EventFileWriter::encode(&batch.slice(0, 99)).unwrap().hash;
    // Our writer omits the Arrow schema; the writer of a program that copied our metadata adds it.
    let with_our_hash = |ours: bool| {
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(ours);
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.append_key_value_metadata(KeyValue::new("content_hash".to_owned(), hash.to_string()));
        EventFile::open("test", writer.into_inner().unwrap().into()).unwrap()
    };
    let read: Vec<_> = with_our_hash(true).collect();
    assert_eq!(read.len(), 2);
    let error = read[1].as_ref().unwrap_err().to_string();
    assert!(error.contains(&hash.to_string()), "{error}");

    let rewritten: Vec<_> = with_our_hash(false).map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(rewritten, [100]);
}

#[test]
fn damaged_pages_are_errors_of_the_file_and_nulls_of_their_rows() {
    let whole = EventFileWriter::encode(&batch(1000)).unwrap().bytes;
    let mut damaged = whole.to_vec();
    damaged[200..1000].fill(0xaa);
    assert!(decode(damaged.into()).is_err());

    let mut columns = columns(&batch(2));
    columns[6].1 = Arc::new(StringArray::from(vec![Some("tools"), None]));
    let mut file = EventFile::open("test", foreign(named(&columns))).unwrap();
    let batch = file.next().unwrap().unwrap();
    let events: Vec<_> = read_batch(&batch).unwrap().collect();
    assert_eq!(
        events[0],
        Ok(event(0, "2026-11-22T09:00:00Z")).map(|event| ProductEvent { category: "tools".into(), ..event })
    );
    assert_eq!(events[1], Err(ArrowFormError::Value { column: "category", row: 1 }));
    assert_eq!((events.len(), file.next().is_none()), (2, true));
}
