//! The standard AWS chain: variables, and the errors if they are missing.
//!
//! Each case needs its own variables, so it runs in a child process: this test binary with the otherwise ignored
//! test `child`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use lake::{Lake, S3Access};
use local_stack::S3;
use local_stack::certificates::Authority;

#[tokio::test]
#[ignore = "the child process of the tests in this file"]
async fn child() {
    let url = std::env::var("LAKE_URL").unwrap().parse().unwrap();
    let started = Instant::now();
    match Lake::open(&url, S3Access::Standard).await {
        Ok(lake) => println!("opened with {} objects", lake.list("").await.unwrap().len()),
        Err(error) => println!("error: {error}"),
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Opens a lake with only these variables and returns the output.
fn open(url: &str, variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env_clear()
        .envs([("LAKE_URL", url), ("HOME", home.path().to_str().unwrap())])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

const NO_IMDS: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

#[test]
fn variables_are_enough_and_a_region_is_not_needed_elsewhere() {
    let server = S3::ephemeral().unwrap();
    let access = server.access();
    let keys = [("AWS_ACCESS_KEY_ID", access.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", &access.secret_key)];
    let url = format!("s3://{}", access.bucket);
    // A host name, because clients address buckets by path if the host is an IP address.
    let named = access.endpoint.replace("127.0.0.1", "localhost");
    for endpoint in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        let said = open(&url, &[keys[0], keys[1], NO_IMDS, (endpoint, &named)]);
        assert!(said.contains("opened with 0 objects"), "{said}");
    }
    let said = open("s3://no-such-bucket", &[keys[0], keys[1], NO_IMDS, ("AWS_ENDPOINT_URL", &access.endpoint)]);
    assert!(said.contains("error: cannot use bucket no-such-bucket") && said.contains(&access.endpoint), "{said}");
    let said = open(&url, &[NO_IMDS, ("AWS_ENDPOINT_URL", &access.endpoint)]);
    assert!(said.contains("error: no AWS credentials") && said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}

#[test]
fn a_bundle_says_whom_to_trust() {
    let (authority, other) = (Authority::new("s3").unwrap(), Authority::new("other").unwrap());
    let server = S3::secured(&authority.issue(&["127.0.0.1", "localhost"]).unwrap(), &authority).unwrap();
    let access = server.access();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = format!("s3://{}", access.bucket);
    let with = |bundle: Option<&str>| {
        let keys = [("AWS_ACCESS_KEY_ID", access.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", &access.secret_key)];
        let mut variables = vec![keys[0], keys[1], NO_IMDS, ("AWS_ENDPOINT_URL", &access.endpoint)];
        variables.extend(bundle.map(|path| ("AWS_CA_BUNDLE", path)));
        open(&url, &variables)
    };
    let both = file("both.pem", &(other.certificate().unwrap() + &authority.certificate().unwrap()));
    let said = with(Some(&both));
    assert!(said.contains("opened with 0 objects"), "{said}");
    let foreign = file("other.pem", &other.certificate().unwrap());
    for bundle in [None, Some(foreign.as_str())] {
        let said = with(bundle);
        assert!(said.contains("invalid peer certificate") && said.contains("AWS_CA_BUNDLE"), "{said}");
    }
    let said = with(Some(&file("empty.pem", "")));
    assert!(said.contains("error: cannot read AWS_CA_BUNDLE") && said.contains("empty.pem"), "{said}");
}

#[test]
fn a_missing_region_is_named_where_it_is_needed() {
    let said = open("s3://some-bucket", &[NO_IMDS, ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    assert!(said.contains("error: no AWS region") && said.contains("AWS_REGION"), "{said}");
}

#[test]
fn an_instance_that_is_none_does_not_take_long_to_say_so() {
    // Address of the instance metadata service, without a listener.
    let said = open(
        "s3://some-bucket",
        &[("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")],
    );
    assert!(said.contains("error: no AWS credentials"), "{said}");
}
