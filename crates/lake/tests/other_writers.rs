//! Files of events that pyarrow and `DuckDB` rewrote can be read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

#[path = "support/python.rs"]
mod python;

use std::fs;
use std::process::Command;

use event_model::ProductEvent;
use support::{decode, encode, event};

const FROM: &str = "2026-11-22T09:00:00Z";

/// Events with numbers that fit into the smallest integer type.
fn events() -> Vec<ProductEvent<'static>> {
    let small = |n: u64| ProductEvent { user_id: i32::try_from(n % 120).unwrap() + 1, ..event(n, FROM) };
    (0..400).map(small).collect()
}

#[test]
fn rewritten_files_have_the_same_events() {
    let python = python::python().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours");
    let events = events();
    fs::write(&ours, encode(&events).bytes).unwrap();
    let rewritten = folder.path().join("rewritten");
    fs::create_dir(&rewritten).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/rewrite_file.py");
    let output = Command::new(python).arg(script).args([&ours, &rewritten]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(rewritten).unwrap() {
        let path = entry.unwrap().path();
        count += 1;
        match decode(fs::read(&path).unwrap().into()) {
            Err(error) => wrong.push(format!("{}: {error}", path.display())),
            Ok(mut read) => {
                read.sort_by_key(|event| event.event_id);
                if read != events {
                    wrong.push(format!("{}: other events, {} of them", path.display(), read.len()));
                }
            }
        }
    }
    assert!(count > 45, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
