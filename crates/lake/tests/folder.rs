//! A lake in a folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use lake::{Lake, LakeError, LakeUrl, S3Access};
use support::{behaves_as_a_lake, event_file};

async fn open(folder: &Path) -> Result<Lake, LakeError> {
    Lake::open(&LakeUrl::Folder(folder.to_owned()), S3Access::Standard).await
}

#[tokio::test(flavor = "multi_thread")]
async fn behaves() {
    let folder = tempfile::tempdir().unwrap();
    behaves_as_a_lake(&open(folder.path()).await.unwrap(), 50).await;
}

#[tokio::test]
async fn files_lie_where_their_keys_say_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await.unwrap();
    let file = event_file(3, "2026-11-22T09:59:50Z");
    lake.put_file(&file).await.unwrap();
    lake.put_file(&file).await.unwrap();
    lake.put_replacing("runs/0a1b2c3d4.draft.json", Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(fs::read(folder.path().join(&file.key)).unwrap(), file.bytes);
    for part in ["raw/event_date=2026-11-22/hour=09", "runs"] {
        assert_eq!(fs::read_dir(folder.path().join(part)).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn what_a_kill_leaves_is_not_listed_and_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await.unwrap();
    let file = event_file(3, "2026-11-22T09:00:00Z");
    let path = folder.path().join(&file.key);
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_file_name(format!(".{name}.{}-0.tmp", std::process::id())), b"half").unwrap();
    assert_eq!(lake.list("").await.unwrap(), []);
    lake.put_file(&file).await.unwrap();
    assert_eq!(lake.list("raw/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_foreign_file_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await.unwrap();
    let file = event_file(3, "2026-11-22T09:00:00Z");
    let path = folder.path().join(&file.key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"not Parquet").unwrap();
    let error = lake.put_file(&file).await.unwrap_err();
    assert!(matches!(error, LakeError::Conflict { stored: None, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"not Parquet");
}

#[tokio::test]
async fn a_missing_folder_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = open(&missing).await.unwrap_err();
    assert!(matches!(&error, LakeError::NoFolder { path } if *path == missing), "{error}");
    assert!(error.to_string().contains("mkdir -p"), "{error}");

    fs::create_dir(&missing).unwrap();
    let lake = open(&missing).await.unwrap();
    fs::remove_dir(&missing).unwrap();
    assert!(matches!(lake.get("runs/r.json").await, Err(LakeError::NoFolder { .. })));
    assert!(matches!(lake.list("").await, Err(LakeError::NoFolder { .. })));
}

#[tokio::test]
async fn keys_do_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await.unwrap();
    for key in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".hidden", "a/.b.tmp"] {
        assert!(matches!(lake.get(key).await, Err(LakeError::Key { .. })), "{key}");
        let put = lake.put_replacing(key, Bytes::new()).await;
        assert!(matches!(put, Err(LakeError::Key { .. })), "{key}");
    }
}
