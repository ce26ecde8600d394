//! Fuzz targets: files, manifests and names of any content.

use bytes::Bytes;
use event_model::read_batch;

use crate::{ContentHash, EventFile, Key, LakeError, LakeUrl, Manifest, QuarantineFile, RunId, SetHash};

/// Maximum memory of the process in KiB. A file of the corpus needs a small part of it.
const MAX_MEMORY: u64 = 512 << 10;

/// Damaged files are errors, without a panic and within bounded memory.
#[test]
fn parquet() {
    fuzz::check("parquet", |file: &[u8]| {
        let file = Bytes::copy_from_slice(file);
        for read in [read_events(file.clone()), read_quarantine(file)] {
            assert!(matches!(read, Ok(()) | Err(LakeError::BadFile { .. })), "{read:?}");
        }
        assert!(peak_memory() < MAX_MEMORY, "{} KiB", peak_memory());
    });
}

fn read_events(file: Bytes) -> Result<(), LakeError> {
    for batch in EventFile::open("test", file)? {
        // Missing columns and invalid rows are errors of `read_batch`.
        if let Ok(events) = read_batch(&batch?) {
            events.for_each(drop);
        }
    }
    Ok(())
}

fn read_quarantine(file: Bytes) -> Result<(), LakeError> {
    QuarantineFile::open("test", file)?.try_for_each(|rows| rows.map(drop))
}

/// Returns the maximum of the memory that the process has used so far, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn manifest() {
    fuzz::check("manifest", |text: &[u8]| {
        let mut manifest = match Manifest::from_json("test", text) {
            Ok(manifest) => manifest,
            Err(LakeError::BadFile { .. } | LakeError::NewerManifest { .. }) => return,
            Err(other) => panic!("{other}"),
        };
        // The lake does not interpret the settings, and JSON cannot represent every number in them exactly.
        manifest.settings.take();
        let text = manifest.to_json().unwrap();
        let _ = (manifest.discrepancies(), manifest.counts.expected_counts());
        assert_eq!(Manifest::from_json("test", &text).unwrap(), manifest);
    });
}

/// Keys, addresses and hashes.
#[test]
fn names() {
    fuzz::check("names", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        fuzz::reads_back::<ContentHash>(text);
        fuzz::reads_back::<Key>(text);
        fuzz::reads_back::<LakeUrl>(text);
        fuzz::reads_back::<RunId>(text);
        fuzz::reads_back::<SetHash>(text);
        if let Ok(key) = text.parse::<Key>() {
            assert_eq!(key.to_string(), text, "a key has one form");
        }
    });
}
