//! A lake on a real S3 server.

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod support;

use bytes::Bytes;
use lake::{ContentHash, Lake, LakeError, LakeUrl, Put, S3Access};
use support::behaves_as_a_lake;

struct Server {
    endpoint: String,
    access_key: String,
    secret_key: String,
    region: String,
    bucket: String,
}
fn server() -> Server {
    Server {
        endpoint: "http://127.0.0.1:18333".into(),
        access_key: "local-stack".into(),
        secret_key: "local-stack-secret".into(),
        region: "us-east-1".into(),
        bucket: "product-events-lake".into(),
    }
}

fn access(server: &Server) -> S3Access {
    S3Access::Fixed {
        endpoint: server.endpoint.clone(),
        access_key: server.access_key.clone(),
        secret_key: server.secret_key.clone(),
        region: server.region.clone(),
    }
}

async fn open(server: &Server, prefix: &str) -> Lake {
    let url = LakeUrl::S3 { bucket: server.bucket.clone(), prefix: prefix.to_owned() };
    Lake::open(&url, access(server)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn behaves() {
    let server = server();
    behaves_as_a_lake(&open(&server, "whole").await).await;
    behaves_as_a_lake(&open(&server, "a/prefix of its own=%2B+ä").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_and_listings_of_several_pages_are_whole() {
    let server = server();
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
async fn a_missing_bucket_is_named() {
    let server = server();
    let url = LakeUrl::S3 { bucket: "no-such-bucket".to_owned(), prefix: String::new() };
    let error = Lake::open(&url, access(&server)).await.unwrap_err();
    assert!(matches!(&error, LakeError::NoBucket { bucket, .. } if bucket == "no-such-bucket"), "{error}");
    assert!(error.to_string().contains(&server.endpoint), "{error}");
    println!("{error}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let server = server();
    let url = LakeUrl::S3 { bucket: server.bucket.clone(), prefix: String::new() };
    for (key, secret) in [("nobody", "local-stack-secret"), ("local-stack", "wrong")] {
        let access = S3Access::Fixed {
            endpoint: server.endpoint.clone(),
            access_key: key.to_owned(),
            secret_key: secret.to_owned(),
            region: server.region.clone(),
        };
        let error = Lake::open(&url, access).await.unwrap_err();
        assert!(matches!(error, LakeError::BadCredentials { .. }), "{error}");
        assert!(error.to_string().contains(&server.endpoint), "{error}");
        println!("{error}");
    }
}
