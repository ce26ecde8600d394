//! A lake on a real S3 server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use lake::{ContentHash, Lake, LakeError, LakeUrl, Put, S3Access};
use local_stack::S3;
use support::{behaves_as_a_lake, event_file};

fn access(server: &S3) -> S3Access {
    let local_stack::S3Access { endpoint, access_key, secret_key, region, .. } = server.access();
    S3Access::Fixed { endpoint, access_key, secret_key, region }
}

fn url(server: &S3, prefix: &str) -> LakeUrl {
    LakeUrl::S3 { bucket: server.access().bucket, prefix: prefix.to_owned() }
}

async fn open(server: &S3, prefix: &str) -> Lake {
    Lake::open(&url(server, prefix), access(server)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn behaves() {
    let server = S3::ephemeral().unwrap();
    // SeaweedFS delays the losers of a race by seconds.
    behaves_as_a_lake(&open(&server, "").await, 3).await;
    behaves_as_a_lake(&open(&server, "a/long prefix=%2B+ä").await, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_and_listings_of_several_pages_are_whole() {
    let server = S3::ephemeral().unwrap();
    let lake = open(&server, "large").await;
    let bytes: Bytes = (0..40_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into();
    let hash = ContentHash::of_bytes(&bytes);
    assert_eq!(lake.put_new("runs/large.json", bytes.clone(), hash).await.unwrap(), Put::Written);
    assert!(lake.get("runs/large.json").await.unwrap() == Some(bytes));

    let keys: Vec<_> = (0..1_234).map(|n| format!("many/{}/{n}", n % 7)).collect();
    for keys in keys.chunks(50) {
        let puts = keys.iter().map(|key| {
            let (lake, key) = (lake.clone(), key.clone());
            tokio::spawn(async move { lake.put_replacing(&key, Bytes::from_static(b"x")).await })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap().unwrap();
        }
    }
    let mut expected = keys.clone();
    expected.sort();
    let found: Vec<_> = lake.list("many/").await.unwrap().into_iter().map(|object| object.key).collect();
    assert!(found == expected, "{} of {}", found.len(), expected.len());
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_credentials_are_errors_at_once() {
    let server = S3::ephemeral().unwrap();
    let endpoint = server.access().endpoint;
    let elsewhere = LakeUrl::S3 { bucket: "no-such-bucket".to_owned(), prefix: String::new() };
    let error = Lake::open(&elsewhere, access(&server)).await.unwrap_err();
    assert!(matches!(&error, LakeError::NoBucket { bucket, .. } if bucket == "no-such-bucket"), "{error}");
    assert!(error.to_string().contains(&endpoint), "{error}");

    let right = server.access();
    for (key, secret) in [("nobody", right.secret_key.as_str()), (right.access_key.as_str(), "wrong")] {
        let access = S3Access::Fixed {
            endpoint: endpoint.clone(),
            access_key: key.to_owned(),
            secret_key: secret.to_owned(),
            region: right.region.clone(),
        };
        let error = Lake::open(&url(&server, ""), access).await.unwrap_err();
        assert!(matches!(error, LakeError::BadCredentials { .. }), "{error}");
        assert!(error.to_string().contains(&endpoint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_is_waited_for() {
    let mut server = S3::ephemeral().unwrap();
    let lake = open(&server, "").await.with_retry_deadline(None);
    let file = event_file(100, "2026-11-22T09:00:00Z");
    server.kill().unwrap();
    let put = tokio::spawn({
        let (lake, file) = (lake.clone(), file.clone());
        async move { lake.put_file(&file).await }
    });
    server.restart().unwrap();
    assert_eq!(put.await.unwrap().unwrap(), Put::Written);
    assert_eq!(lake.get(&file.key).await.unwrap(), Some(file.bytes));
}
