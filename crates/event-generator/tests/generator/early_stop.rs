//! Runs stopped by a signal, and outages of a store.

use std::time::{Duration, Instant};

use lake::End;
use local_stack::{Kafka, S3};
use workload::{Settings, Source};

use crate::program::{Running, publish};
use crate::servers::{Target, target};
use crate::stores::{read_lake, read_topic, records_in, verify_stores};

async fn stops_cleanly_on(signal: &str) {
    let target = target();
    let flags = "--rate 2500/s --fault invalid=2% --fault corrupt=1% --fault duplicate=1% -v";
    let mut running = Running::start(publish(&target, flags));
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&target) < 1_500 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    running.signal(signal);
    let done = running.wait().expect_code(0);
    assert!(done.took < Duration::from_secs(30), "{done:?}");

    let ended = done.line("run ended");
    let files = read_lake(&target).await;
    let manifest = &files.manifests[0];
    let settings: Settings = serde_json::from_value(manifest.settings.clone()).unwrap();
    let topic = read_topic(&target, Source::new(settings).unwrap().run_tag());
    assert_eq!(manifest.end, Some(End::Stopped));
    assert_eq!(ended["complete"], false);
    assert!(manifest.next_index > 1_000, "{}", manifest.next_index);
    assert_eq!(ended["events"], manifest.next_index);
    assert_eq!(ended["records_acknowledged"], topic.records);
    assert_eq!(topic.records, manifest.counts.expected_counts().kafka_records);
    assert_eq!(files.raw_rows, manifest.counts.outcomes.valid);
    assert_eq!(topic.events.keys().copied().collect::<Vec<_>>(), files.raw.into_iter().collect::<Vec<_>>());
    assert_eq!(files.quarantine.len() as u64, manifest.counts.outcomes.invalid);
}

#[tokio::test]
async fn sigint_stops_cleanly() {
    stops_cleanly_on("-INT").await;
}

#[tokio::test]
async fn sigterm_stops_cleanly() {
    stops_cleanly_on("-TERM").await;
}

#[tokio::test]
async fn unacknowledged_records_are_reported() {
    let mut kafka = Kafka::ephemeral().unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let mut running = Running::start(publish(&target, "--rate 100k/s"));
    running.wait_for("run started");
    // A run stopped before its first event has nothing to store and succeeds.
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&target) == 0 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    kafka.kill().unwrap();
    running.wait_for("kafka unavailable");
    running.signal("-INT");
    let asked = Instant::now();
    let done = running.wait().expect_error(1, &["has not acknowledged", "--resume --run-id", "no manifest is written"]);
    assert!(asked.elapsed() < Duration::from_secs(12), "{done:?}");
    let files = read_lake(&target).await;
    assert!(files.manifests.iter().all(|manifest| manifest.end.is_none()), "only a draft: {:?}", files.manifests);
}

#[tokio::test]
async fn an_outage_of_either_store_is_survived() {
    let (mut kafka, mut s3) = (Kafka::ephemeral().unwrap(), S3::ephemeral().unwrap());
    let target = Target::on(kafka.bootstrap_servers(), s3.access());
    // At this rate a segment is complete every few seconds.
    let mut running = Running::start(publish(&target, "--rate 20k/s --duration 15s"));
    running.wait_for("run started");
    kafka.kill().unwrap();
    running.wait_for("kafka unavailable");
    kafka.restart().unwrap();
    s3.kill().unwrap();
    running.wait_for("lake retry");
    s3.restart().unwrap();
    running.wait().expect_code(0);
    assert_eq!(verify_stores(&target).await, 300_000);
}
