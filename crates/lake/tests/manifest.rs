//! The JSON format of the manifest, which other programs and later releases read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use lake::{
    Counts, End, FaultCounts, FileCounts, FirstDraft, HourCounts, KafkaPart, Lake, LakeError, LakePart, LakeUrl,
    MANIFEST_VERSION, Manifest, OutcomeCounts, Program, Put, RunName, S3Access,
};
use serde_json::json;
use support::run;

fn manifest() -> Manifest {
    let hour = "2026-11-22T10".parse().unwrap();
    let valid = OutcomeCounts { valid: 7, invalid: 0, corrupt: 0 };
    let mut of_hour = HourCounts { outcomes: valid, ..HourCounts::default() };
    of_hour.valid_hash.add("000000000000000000000000000000ff".parse().unwrap());
    let mut counts = Counts {
        outcomes: valid,
        event_types: [("search_performed".to_owned(), 7)].into(),
        hours: [(hour, of_hour)].into(),
        ..Counts::default()
    };
    let faulty = OutcomeCounts { valid: 0, invalid: 2, corrupt: 1 };
    let more = HourCounts { outcomes: faulty, valid_hash: "01".repeat(16).parse().unwrap(), ..HourCounts::default() };
    counts.merge(&Counts {
        outcomes: faulty,
        faults: FaultCounts { invalid: 2, corrupt: 1, duplicate: 3, ..FaultCounts::default() },
        hours: [(hour, more)].into(),
        ..Counts::default()
    });
    Manifest {
        version: MANIFEST_VERSION,
        run: RunName { id: run("0a1b2c3d4"), tag: "0a1b2c3d4".to_owned() },
        program: Program { name: "event-generator".to_owned(), version: "0.1.0".to_owned() },
        settings: json!({"seed": 7}),
        started_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        finished_at: Some("2026-11-22T10:00:01.5Z".parse().unwrap()),
        end: Some(End::CountReached),
        resumes: 0,
        first_index: 0,
        next_index: 10,
        counts,
        kafka: Some(KafkaPart { topic: "product-events".to_owned(), records: 11, end_offsets: [(0, 11)].into() }),
        lake: Some(LakePart {
            url: "s3://product-events-lake".to_owned(),
            segment_indices: 34_722,
            raw: FileCounts { files: 1, rows: 7 },
            quarantine: FileCounts { files: 1, rows: 2 },
        }),
    }
}

#[test]
fn the_form_is_the_documented_one() {
    let text = manifest().to_json().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        value,
        json!({
            "version": 1,
            "run": {"id": "0a1b2c3d4", "tag": "0a1b2c3d4"},
            "program": {"name": "event-generator", "version": "0.1.0"},
            "settings": {"seed": 7},
            "started_at": "2026-11-22T10:00:00.000000Z",
            "finished_at": "2026-11-22T10:00:01.500000Z",
            "end": "count_reached",
            "resumes": 0,
            "first_index": 0,
            "next_index": 10,
            "counts": {
                "outcomes": {"valid": 7, "invalid": 2, "corrupt": 1},
                "faults": {
                    "invalid": 2, "corrupt": 1, "duplicate": 3, "oversize": 0, "late": 0, "out_of_order": 0, "hot_key": 0, "burst": 0
                },
                "event_types": {"search_performed": 7},
                "hours": {"2026-11-22T10": {
                    "valid": 7, "invalid": 2, "corrupt": 1,
                    "valid_hash": "01010101010101010101010101010200",
                    "invalid_hash": "00000000000000000000000000000000",
                    "corrupt_hash": "00000000000000000000000000000000",
                }},
            },
            "kafka": {"topic": "product-events", "records": 11, "end_offsets": {"0": 11}},
            "lake": {
                "url": "s3://product-events-lake",
                "segment_indices": 34722,
                "raw": {"files": 1, "rows": 7},
                "quarantine": {"files": 1, "rows": 2},
            },
        })
    );
    assert!(text.starts_with(b"{\n  \"version\": 1,\n"));
    assert_eq!(Manifest::from_json("runs/x.json", &text).unwrap(), manifest());
}

#[test]
fn without_kafka_and_lake_both_are_null() {
    let bare = Manifest { kafka: None, lake: None, finished_at: None, end: None, ..manifest() };
    let text = bare.to_json().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert!(["kafka", "lake", "end", "finished_at"].iter().all(|name| value[name].is_null()));
    assert_eq!(Manifest::from_json("runs/x.json", &text).unwrap(), bare);
}

#[test]
fn a_later_form_is_refused_and_later_fields_are_not() {
    let mut value = serde_json::to_value(manifest()).unwrap();
    value["added_later"] = json!(1);
    value["counts"]["outcomes"]["late"] = json!(1);
    let read = Manifest::from_json("runs/x.json", value.to_string().as_bytes()).unwrap();
    assert_eq!(read, manifest());

    let later = json!({"version": 2, "everything": "else"}).to_string();
    let error = Manifest::from_json("runs/x.json", later.as_bytes()).unwrap_err();
    assert!(matches!(error, LakeError::NewerManifest { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("runs/x.json"), "{error}");

    for text in ["", "[]", "{}", "{\"version\": 1}", "{\"version\": \"1\"}"] {
        let error = Manifest::from_json("runs/x.json", text.as_bytes()).unwrap_err();
        assert!(matches!(error, LakeError::BadFile { .. }), "{text}");
    }
}

#[test]
fn each_kind_ends_where_the_contract_says() {
    let expected = manifest().counts.expected_counts();
    assert_eq!(expected.kafka_records, 7 + 3 + 1);
    assert_eq!((expected.raw_rows, expected.table_rows), (7, 7));
    assert_eq!((expected.quarantine_rows, expected.duplicates, expected.dead_letters), (2, 3, 1));
}

#[test]
fn sums_that_do_not_add_up_are_named() {
    assert_eq!(manifest().discrepancies(), [""; 0]);
    let mut wrong = manifest();
    wrong.next_index = 11;
    assert_eq!(wrong.discrepancies(), ["11 indices, but 10 valid, invalid and corrupt events"]);
    let mut wrong = manifest();
    wrong.counts.hours.clear();
    assert_eq!(wrong.discrepancies().len(), 3);
    let mut wrong = manifest();
    wrong.lake.as_mut().unwrap().raw.rows = 6;
    assert_eq!(wrong.discrepancies(), ["7 valid events, but 6 rows in raw files"]);
}

#[test]
fn counts_of_any_size_are_added() {
    let mut largest = manifest();
    let outcomes = OutcomeCounts { valid: u64::MAX, invalid: 1, corrupt: u64::MAX };
    largest.counts.outcomes = outcomes;
    largest.counts.faults.oversize = u64::MAX;
    largest.counts.event_types = [("rfq_sent".to_owned(), u64::MAX), ("product_viewed".to_owned(), 1)].into();
    for hour in ["2026-11-22T11", "2026-11-22T12"] {
        largest.counts.hours.insert(hour.parse().unwrap(), HourCounts { outcomes, ..HourCounts::default() });
    }
    assert_eq!(largest.counts.expected_counts().kafka_records, u64::MAX);
    assert_eq!(largest.discrepancies().len(), 4);
}

#[tokio::test]
async fn a_finished_run_has_one_manifest_and_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(&LakeUrl::Folder(folder.path().to_owned()), S3Access::Standard).await.unwrap();
    let finished = manifest();
    let id = &finished.run.id;
    let draft = Manifest { finished_at: None, end: None, ..manifest() };
    assert_eq!(lake.put_first_draft(&Manifest { next_index: 0, ..draft.clone() }).await.unwrap(), FirstDraft::Written);
    lake.put_draft(&draft).await.unwrap();
    lake.put_draft(&draft).await.unwrap();
    assert_eq!(lake.draft(id).await.unwrap(), Some(draft.clone()));
    let later = Manifest { resumes: 1, ..draft.clone() };
    assert_eq!(lake.put_first_draft(&later).await.unwrap(), FirstDraft::Exists);
    assert_eq!(lake.draft(id).await.unwrap(), Some(draft));
    assert_eq!(lake.manifest(id).await.unwrap(), None);

    assert_eq!(lake.put_manifest(&finished).await.unwrap(), Put::Written);
    assert_eq!(lake.put_manifest(&finished).await.unwrap(), Put::AlreadyThere);
    assert_eq!(lake.manifest(id).await.unwrap(), Some(finished.clone()));
    assert_eq!(lake.draft(id).await.unwrap(), None);
    let conflict = lake.put_manifest(&Manifest { next_index: 11, ..finished }).await.unwrap_err();
    assert!(matches!(conflict, LakeError::Conflict { .. }), "{conflict}");
}
