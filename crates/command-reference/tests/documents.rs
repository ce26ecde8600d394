//! The committed page agrees with the command lines, and man pages cover every command.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

#[test]
fn the_configuration_page_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let committed = fs::read_to_string(page).unwrap();
    let generated = command_reference::configuration_page();
    let difference = committed.lines().zip(generated.lines()).find(|(committed, generated)| committed != generated);
    assert!(committed == generated, "run `make reference` and commit docs/configuration.md: {difference:?}");
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    command_reference::write_man_pages(folder.path()).unwrap();
    for page in
        ["event-generator.1", "event-generator-sample.1", "kafka-consumer.1", "kafka-consumer-dead-letters-replay.1"]
    {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}
