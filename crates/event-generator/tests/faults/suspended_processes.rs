//! Rows 2 and 3: an end that is asked for while nothing gets on, and a generator that stands still.

use std::process::Command;
use std::time::{Duration, Instant};

use local_stack::Kafka;

use crate::program::{Running, publish, run};
use crate::servers::{Place, place};
use crate::stores::records_in;
use crate::verification::holds;

pub(crate) fn signal(kafka: &Kafka, name: &str) {
    let pid = kafka.pid().unwrap().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[tokio::test]
#[ignore = "fault"]
async fn sigterm_with_a_full_queue() {
    let kafka = Kafka::ephemeral().unwrap();
    let place = Place::on(kafka.bootstrap_servers(), place().s3);
    let mut running = Running::start(publish(&place, "--rate max --count 20M --run-id full"));
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&place) < 50_000 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    signal(&kafka, "-STOP");
    // Longer than the queue takes to fill.
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.signal("-TERM");
    let asked = Instant::now();
    running.wait().expect_error(1, &["has not acknowledged", "--resume --run-id full"]);
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    signal(&kafka, "-CONT");
    let mut resumed = Running::start(publish(&place, "--resume --run-id full --rate max --count 3M"));
    resumed.wait_for("run started");
    resumed.wait().expect_code(0);
    assert_eq!(holds(&place, "full").await.next_index, 3_000_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn it_stands_still_for_thirty_seconds() {
    let place = place();
    let mut running = Running::start(publish(&place, "--rate 5000/s --duration 40s --run-id still"));
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&place) < 5_000 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    running.signal("-STOP");
    let stood = records_in(&place);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(records_in(&place) - stood < 10_000, "it did not stand still");
    running.signal("-CONT");
    let done = running.wait().expect_code(0);
    assert!(done.line("run ended")["lateness_max_micros"].as_u64().unwrap() > 20_000_000);
    assert!(done.stderr.contains("fell behind its schedule"), "{done:?}");
    assert_eq!(holds(&place, "still").await.next_index, 200_000);
}

#[tokio::test]
async fn a_run_without_a_lake_has_its_manifest_on_the_host() {
    let place = place();
    let mut command = crate::program::command("--rate max --count 10k --no-lake --run-id bare --topic bare");
    command
        .args(["--bootstrap-servers", &place.bootstrap_servers])
        .env("EVENT_GENERATOR_STATE_DIR", place.state.path());
    run(command).expect_code(0);
    let text = std::fs::read(place.state.path().join("bare/manifest.json")).unwrap();
    let manifest = lake::Manifest::from_json("manifest.json", &text).unwrap();
    let verdict = crate::verification::verdict(&place, &manifest).await;
    assert!(verdict.holds() && manifest.lake.is_none(), "{verdict}");
}
