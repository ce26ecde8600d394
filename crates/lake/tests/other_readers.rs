//! pyarrow and `DuckDB` read the files of this crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "support/python.rs"]
mod python;

use std::fs;
use std::path::Path;
use std::process::Command;

use event_model::{Hour, Timestamp, Window, dictionary_columns, json_schema, parse};
use lake::{Lake, LakeUrl, QuarantineRow, S3Access, SegmentBuilder};
use serde_json::{Map, Value, json};
use support::{event, run};

const FROM: &str = "2026-11-22T22:30:00Z";
/// One event per second for twelve hours: crosses midnight and includes an hour 09.
const EVENTS: u64 = 43_200;
const SEGMENT: u64 = 1_000;

#[tokio::test]
async fn read_the_same_types_and_rows() {
    let python = python::python().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    fs::create_dir(&lake).unwrap();
    let expected = fill(&lake).await;
    let expected_file = folder.path().join("expected.json");
    fs::write(&expected_file, expected.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_lake.py");
    let output = Command::new(python).arg(script).args([&lake, &expected_file]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Fills a lake and returns its expected content.
async fn fill(folder: &Path) -> Value {
    let lake = Lake::open(&LakeUrl::Folder(folder.to_owned()), S3Access::Standard).await.unwrap();
    let (mut events, mut quarantine, mut hashes) = (Vec::new(), Vec::new(), Map::new());
    for segment in 0..EVENTS / SEGMENT {
        let mut builder = SegmentBuilder::new(run("0a1b2c3d4"), segment, 0);
        for n in segment * SEGMENT..(segment + 1) * SEGMENT {
            let event = event(n, FROM);
            if n % 100 == 99 {
                let row = refused(n, event.event_timestamp);
                quarantine.push(in_partition(refused_json(&row), row.due.hour()));
                builder.append_rejected(row);
            } else {
                events.push(in_partition(serde_json::to_value(&event).unwrap(), event.event_timestamp.hour()));
                builder.append(&event);
            }
        }
        let files = builder.finish().unwrap();
        for file in files.raw.iter().chain(&files.quarantine) {
            lake.put_file(file).await.unwrap();
            hashes.insert(file.key.clone(), file.hash.to_string().into());
        }
    }
    let dictionary: Vec<&str> = dictionary_columns().collect();
    json!({"events": events, "quarantine": quarantine, "hashes": hashes, "schema": json_schema(), "dictionary": dictionary})
}

fn refused(n: u64, due: Timestamp) -> QuarantineRow {
    let values: [&[u8]; 4] = [b"{\"user_id\": 0, \"event_type\": \"\"}", b"\xff\xfe", b"[\"\xc3\xa4\\n\"]", b""];
    let value = values[usize::try_from(n / 100).unwrap() % values.len()];
    let rejection = parse(Some(value), None, Window::default()).unwrap_err();
    QuarantineRow::new(n, due, value, &rejection)
}

fn refused_json(row: &QuarantineRow) -> Value {
    json!({
        "event_index": row.event_index,
        "due": row.due,
        "raw": row.raw,
        "reason_codes": row.reason_codes,
        "fields": row.fields,
    })
}

fn in_partition(mut row: Value, hour: Hour) -> Value {
    row["event_date"] = hour.date().into();
    row["hour"] = format!("{:02}", hour.hour_of_day()).into();
    row
}
