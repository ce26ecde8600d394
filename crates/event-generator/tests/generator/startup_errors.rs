//! Errors at the start: each is reported at once, with its cause and a remedy.

use std::net::TcpListener;
use std::time::Duration;

use lake::manifest_key;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::program::{command, publish, run};
use crate::servers::target;
use crate::stores::records_in;

const START: &str = "cargo run -p local-stack -- up";

/// Returns a port on which no process listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn servers_that_do_not_run() {
    let servers = format!("127.0.0.1:{}", closed_port());
    let mut kafka = command("--no-lake --bootstrap-servers");
    kafka.arg(&servers);
    let done = run(kafka).expect_error(1, &[&servers, START]);
    assert!(done.took < Duration::from_secs(10), "{done:?}");

    let endpoint = format!("http://127.0.0.1:{}", closed_port());
    let mut lake = command("--no-kafka --lake s3://some-bucket");
    lake.env("AWS_ENDPOINT_URL_S3", &endpoint).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let done = run(lake).expect_error(1, &[&endpoint, START]);
    assert!(done.took < Duration::from_secs(10), "{done:?}");
}

#[test]
fn wrong_usage() {
    for (flags, parts) in [
        ("--rate fast", &["fast", "10M/day"][..]),
        ("--no-such-flag", &["--no-such-flag"]),
        ("--rate max", &["--count"]),
        ("--fault latest=1%", &["latest", "invalid, corrupt, duplicate"]),
        ("--lake /tmp/x", &["file:///folder"]),
        ("-X no.such.property=1", &["no.such.property"]),
        ("-X acks=1", &["acks", "in-sync"]),
        ("-X enable.idempotence=false", &["enable.idempotence", "duplicate"]),
        ("-X linger.ms=soon", &["linger.ms"]),
        ("--kafka-config /no/such/file", &["/no/such/file"]),
        ("--from 2001-01-01T00:00:00Z", &["400 days"]),
    ] {
        run(command(flags)).expect_error(2, parts);
    }
    let mut variable = command("--no-lake --no-kafka --rate max");
    variable.env("EVENT_GENERATOR_COUNT", "many");
    run(variable).expect_error(2, &["many"]);
}

#[test]
fn variables_are_flags() {
    let mut config = command("--print-config -X sasl.password=hunter2");
    config
        .env("EVENT_GENERATOR_RATE", "0.5/s")
        .env("EVENT_GENERATOR_TOPIC", "elsewhere")
        .env("EVENT_GENERATOR_SEED", "9")
        .env("EVENT_GENERATOR_WORLD_SEED", "3");
    let done = run(config).expect_code(0);
    let config: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(config["settings"]["event_rate"], "0.5/s");
    assert_eq!((&config["settings"]["seed"], &config["settings"]["world"]["seed"]), (&9.into(), &3.into()));
    assert_eq!(config["kafka"]["topic"], "elsewhere");
    assert_eq!(config["kafka"]["properties"]["sasl.password"], "***");
    assert_eq!(config["lake"], "s3://product-events-lake");
    // Variables for `run` do not affect other commands.
    let mut sample = command("sample -n 1");
    sample.env("EVENT_GENERATOR_COUNT", "5");
    assert_eq!(run(sample).expect_code(0).stdout.lines().count(), 1);
}

#[test]
fn a_lake_that_is_missing_or_forbidden() {
    let target = target();
    let flags = "--rate max --count 10";
    let mut missing = target.clone();
    missing.lake = "s3://no-such-bucket".to_owned();
    run(publish(&missing, flags)).expect_error(1, &["bucket no-such-bucket", &target.s3.endpoint]);
    let mut wrong_keys = target.clone();
    wrong_keys.s3.secret_key = "wrong".to_owned();
    run(publish(&wrong_keys, flags)).expect_error(1, &["credentials", &target.s3.endpoint]);
    let mut no_folder = target;
    no_folder.lake = "file:///no/such/folder".to_owned();
    run(publish(&no_folder, flags)).expect_error(1, &["/no/such/folder", "mkdir"]);
}

#[tokio::test]
async fn two_runs_of_one_name_do_not_mix() {
    let target = target();
    let flags = "--rate max --count 100 --run-id night --from 2026-11-22T09:00:00Z";
    run(publish(&target, flags)).expect_code(0);
    let (lake, night) = (target.open_lake().await, "night".parse().unwrap());
    let manifest = lake.manifest(&night).await.unwrap().unwrap();
    let seed = format!("--seed {}", manifest.settings["seed"]);

    // Without its seed another one is drawn.
    let republish = format!("{flags} --republish");
    run(publish(&target, &republish)).expect_error(2, &["night", "seed (", &format!("{seed} --from 2026-11-22T09:")]);
    run(publish(&target, &format!("{republish} {seed} --users 5")))
        .expect_error(2, &["world.users (1000 saved, 5 given)"]);
    run(publish(&target, &republish.replace("100", "101"))).expect_error(2, &["count (100 saved, 101 given)"]);
    run(publish(&target, &republish.replace("night", "day"))).expect_error(2, &["no finished run day", &target.lake]);
    assert_eq!(records_in(&target), 100, "nothing was sent");
    assert_eq!(lake.manifest(&night).await.unwrap(), Some(manifest.clone()));

    run(publish(&target, &format!("{republish} {seed}"))).expect_code(0);
    assert_eq!(records_in(&target), 200);
    let again = lake.manifest(&night).await.unwrap().unwrap();
    assert_eq!((again.settings, again.counts, again.resumes), (manifest.settings, manifest.counts, 1));

    lake.remove(&manifest_key(&night)).await.unwrap();
    run(publish(&target, flags)).expect_error(1, &["night", "other content"]);
}

#[tokio::test]
async fn a_topic_that_is_too_small() {
    let target = target();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &target.bootstrap_servers).create().unwrap();
    let topic = NewTopic::new(&target.topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "1000");
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    run(publish(&target, "--rate max --count 10")).expect_error(1, &["max.message.bytes", "1000", &target.topic]);
}

#[test]
fn completions_and_help() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(command(&format!("completions {shell}"))).expect_code(0).stdout.contains("bootstrap-servers"));
    }
    let help = run(command("--help")).expect_code(0).stdout;
    assert!(help.contains("--rate") && help.contains("Examples:") && help.contains("EVENT_GENERATOR_RATE"), "{help}");
}
