//! Kafka is killed, stopped and cut off while events are sent. In the end every event is there, once and in order.

use std::process::Command;
use std::time::{Duration, Instant};

use local_stack::{Kafka, Proxy};

use crate::network_faults::{self as network, PATIENCE};
use crate::program::{Running, publish};
use crate::servers::{Place, place};
use crate::stores::{lands, records_in};

/// Waits until the topic has more than so many records.
async fn more_than(place: &Place, before: i64) {
    let deadline = Instant::now() + PATIENCE;
    while records_in(place) <= before {
        assert!(Instant::now() < deadline, "nothing more is sent after {before} records");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "fault"]
async fn it_is_killed_twenty_times() {
    let mut kafka = Kafka::ephemeral().unwrap();
    let place = Place::on(kafka.bootstrap_servers(), place().s3);
    let mut running = Running::start(publish(&place, "--rate 5000/s"));
    running.wait_for("run started");
    for _ in 0..20 {
        more_than(&place, records_in(&place)).await;
        kafka.kill().unwrap();
        kafka.restart().unwrap();
    }
    more_than(&place, records_in(&place)).await;
    running.signal("-TERM");
    running.wait().expect_code(0);
    assert!(lands(&place).await > 100_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn it_is_stopped_for_45_seconds() {
    let kafka = Kafka::ephemeral().unwrap();
    let place = Place::on(kafka.bootstrap_servers(), place().s3);
    let mut running = Running::start(publish(&place, "--rate 10k/s --duration 60s"));
    running.wait_for("run started");
    more_than(&place, 1_000).await;
    let pid = kafka.pid().unwrap().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    tokio::time::sleep(Duration::from_secs(45)).await;
    signal("-CONT");
    let done = running.wait().expect_code(0);
    // What waits has its bounds; beyond them the schedule goes on and the events are late.
    let late = done.line("run ended")["lateness_max_micros"].as_u64().unwrap();
    assert!(late > 10_000_000, "{late} µs");
    assert_eq!(lands(&place).await, 600_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn its_connection_is_cut_half_open_slow_and_late() {
    let proxy = Proxy::listen().unwrap();
    let kafka = Kafka::ephemeral_behind(&proxy).unwrap();
    let place = Place::on(kafka.bootstrap_servers(), place().s3);
    let behind = Place { bootstrap_servers: format!("127.0.0.1:{}", proxy.port()), ..place.clone() };
    let mut running = Running::start(publish(&behind, "--rate 2500/s --duration 120s"));
    running.wait_for("run started");
    more_than(&place, 1_000).await;
    network::suffer(&proxy, async || records_in(&place)).await;
    running.wait().expect_code(0);
    assert_eq!(lands(&place).await, 300_000);
}
