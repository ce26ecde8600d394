//! Reactions of the lake to the responses of S3, and to their absence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub mod scripted_s3;
}

use std::time::{Duration, Instant};

use bytes::Bytes;
use lake::{ContentHash, Lake, LakeError, LakeUrl, Put};
use support::scripted_s3::{Does, ScriptedS3, access};

const PUT: &str = "PUT /lake/some/where/runs/r.json";
const HEAD: &str = "HEAD /lake/some/where/runs/r.json";
const GET: &str = "GET /lake/some/where/runs/r.json";
const KEY: &str = "runs/r.json";
/// SHA-256 of empty content, as metadata of the existing object.
const OF_NOTHING: Does =
    Does::Gives("x-amz-meta-content-hash: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "");

async fn put(server: &ScriptedS3) -> Result<Put, LakeError> {
    let lake = server.open().await.unwrap().with_retry_deadline(Some(Duration::from_millis(300)));
    lake.put_new(KEY, Bytes::new(), ContentHash::of_bytes(b"")).await
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for passes in [
        &[Does::Says(503, "SlowDown"), OF_NOTHING][..],
        &[Does::Says(409, "ConditionalRequestConflict"), OF_NOTHING],
        &[Does::Says(500, "InternalError"), OF_NOTHING],
        &[Does::HangsUp, OF_NOTHING],
    ] {
        let server = ScriptedS3::start(passes).await;
        assert_eq!(put(&server).await.unwrap(), Put::Written);
        assert_eq!(server.requests(), [PUT, PUT]);
    }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_found_to_be_there() {
    let server = ScriptedS3::start(&[Does::HangsUp, Does::Says(412, "PreconditionFailed"), OF_NOTHING]).await;
    assert_eq!(put(&server).await.unwrap(), Put::AlreadyThere);
    assert_eq!(server.requests(), [PUT, PUT, HEAD]);
}

#[tokio::test]
async fn another_file_under_the_key_stops_at_once() {
    let other = "x-amz-meta-content-hash: 0000000000000000000000000000000000000000000000000000000000000000";
    let script = [Does::Says(412, "PreconditionFailed"), Does::Gives(other, "")];
    let server = ScriptedS3::start(Box::leak(Box::new(script))).await;
    let error = put(&server).await.unwrap_err();
    assert!(matches!(error, LakeError::Conflict { stored: Some(_), .. }), "{error}");
    assert_eq!(server.requests(), [PUT, HEAD]);
}

#[tokio::test]
async fn without_metadata_the_file_itself_is_compared() {
    let no_metadata = Does::Gives("x: y", "");
    let script = [Does::Says(412, "PreconditionFailed"), no_metadata, no_metadata];
    let server = ScriptedS3::start(Box::leak(Box::new(script))).await;
    assert_eq!(put(&server).await.unwrap(), Put::AlreadyThere);
    assert_eq!(server.requests(), [PUT, HEAD, GET]);
}

#[tokio::test]
async fn a_file_that_went_away_in_between_is_written() {
    let server =
        ScriptedS3::start(&[Does::Says(412, "PreconditionFailed"), Does::Says(404, ""), Does::Gives("x: y", "")]).await;
    assert_eq!(put(&server).await.unwrap(), Put::Written);
    assert_eq!(server.requests(), [PUT, HEAD, PUT]);
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_at_once() {
    let server = ScriptedS3::start(&[Does::Says(403, "SignatureDoesNotMatch")]).await;
    assert!(matches!(put(&server).await, Err(LakeError::BadCredentials { .. })));
    let server = ScriptedS3::start(&[Does::Says(403, "AccessDenied")]).await;
    assert!(matches!(put(&server).await, Err(LakeError::Denied { .. })));
    let server = ScriptedS3::start(&[Does::Says(404, "NoSuchBucket")]).await;
    assert!(matches!(put(&server).await, Err(LakeError::NoBucket { .. })));
    let server = ScriptedS3::start(&[Does::Says(301, "PermanentRedirect")]).await;
    assert!(matches!(put(&server).await, Err(LakeError::WrongRegion { .. })));
    let server = ScriptedS3::start(&[Does::Says(501, "NotImplemented")]).await;
    assert!(matches!(put(&server).await, Err(LakeError::Refused { .. })));
    assert_eq!(server.requests(), [PUT]);
}

#[tokio::test]
async fn retries_end_and_the_error_says_what_came_last() {
    let server = ScriptedS3::start(&[Does::Says(503, "SlowDown")]).await;
    let error = put(&server).await.unwrap_err();
    assert!(matches!(error, LakeError::Unreachable { .. }));
    let message = error.to_string();
    assert!([&server.endpoint, KEY, "SlowDown"].iter().all(|part| message.contains(part)), "{message}");
    assert!(server.requests().len() > 1);
}

#[tokio::test]
async fn retries_without_a_deadline_wait_an_outage_out() {
    let server = ScriptedS3::start(&[
        Does::HangsUp,
        Does::Says(503, "SlowDown"),
        Does::HangsUp,
        Does::Says(500, "InternalError"),
        Does::Gives("x: y", "body"),
    ])
    .await;
    let lake = server.open().await.unwrap().with_retry_deadline(None);
    assert_eq!(lake.get(KEY).await.unwrap(), Some(Bytes::from_static(b"body")));
    assert_eq!(server.requests(), [GET; 5]);
}

#[tokio::test]
async fn a_server_that_keeps_silent_is_named_within_ten_seconds() {
    let server = ScriptedS3::start(&[Does::KeepsSilent]).await;
    let started = Instant::now();
    let error = server.open().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, LakeError::Unreachable { .. }));
    assert!(error.to_string().contains(&server.endpoint), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_the_address_is_named_within_ten_seconds() {
    // Binding and dropping a listener yields a free port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{free}");
    let url = LakeUrl::S3 { bucket: "lake".to_owned(), prefix: String::new() };
    let started = Instant::now();
    let error = Lake::open(&url, access(&endpoint)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, LakeError::Unreachable { .. }));
    assert!(error.to_string().contains(&endpoint), "{error}");
}
