//! Kafka is killed, suspended or disconnected during a run. Afterwards each event is stored once, in order.

use std::process::Command;
use std::time::{Duration, Instant};

use local_stack::{Kafka, Proxy};

use crate::network_faults::{self, TIMEOUT};
use crate::program::{Running, publish};
use crate::servers::{Target, target};
use crate::stores::{records_in, verify_stores};

/// Waits until the topic has more records than before.
async fn wait_for_more_records(target: &Target, before: i64) {
    let deadline = Instant::now() + TIMEOUT;
    while records_in(target) <= before {
        assert!(Instant::now() < deadline, "nothing more is sent after {before} records");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "fault"]
async fn killed_twenty_times() {
    let mut kafka = Kafka::ephemeral().unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let mut running = Running::start(publish(&target, "--rate 5000/s"));
    running.wait_for("run started");
    for _ in 0..20 {
        wait_for_more_records(&target, records_in(&target)).await;
        kafka.kill().unwrap();
        kafka.restart().unwrap();
    }
    wait_for_more_records(&target, records_in(&target)).await;
    running.signal("-TERM");
    running.wait().expect_code(0);
    assert!(verify_stores(&target).await > 100_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn suspended_for_45_seconds() {
    let kafka = Kafka::ephemeral().unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let mut running = Running::start(publish(&target, "--rate 10k/s --duration 60s"));
    running.wait_for("run started");
    wait_for_more_records(&target, 1_000).await;
    let pid = kafka.pid().unwrap().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    tokio::time::sleep(Duration::from_secs(45)).await;
    signal("-CONT");
    let done = running.wait().expect_code(0);
    // Queues are bounded, so events become late.
    let late = done.line("run ended")["lateness_max_micros"].as_u64().unwrap();
    assert!(late > 10_000_000, "{late} µs");
    assert_eq!(verify_stores(&target).await, 600_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn connection_cut_half_open_slow_and_delayed() {
    let proxy = Proxy::listen().unwrap();
    let kafka = Kafka::ephemeral_behind(&proxy).unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let behind = Target { bootstrap_servers: format!("127.0.0.1:{}", proxy.port()), ..target.clone() };
    let mut running = Running::start(publish(&behind, "--rate 2500/s --duration 120s"));
    running.wait_for("run started");
    wait_for_more_records(&target, 1_000).await;
    network_faults::inject_faults(&proxy, async || records_in(&target)).await;
    running.wait().expect_code(0);
    assert_eq!(verify_stores(&target).await, 300_000);
}
