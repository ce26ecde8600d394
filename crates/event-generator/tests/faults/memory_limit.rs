//! The process stays below its memory limit while both sinks are slow.

use std::time::{Duration, Instant};

use local_stack::proxy::ProxyMode;
use local_stack::{Kafka, Proxy, S3};

use crate::program::{Running, publish};
use crate::servers::{Target, target};
use crate::suspended_processes::signal;
use crate::verification::verify;

/// Returns the peak memory so far in MiB.
fn peak(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

async fn stays_under(limit: u64, event_rate: &str) {
    let (kafka, s3) = (Kafka::ephemeral().unwrap(), S3::ephemeral().unwrap());
    let proxy = Proxy::to(s3.port()).unwrap();
    let target = Target { s3: s3.access(), ..Target::on(kafka.bootstrap_servers(), target().s3) };
    let mut behind = target.clone();
    behind.s3.endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let flags = format!("--rate max --count 4M --event-rate {event_rate} --run-id small --memory-limit {limit}MiB");
    let mut running = Running::start(publish(&behind, &flags));
    running.wait_for("run started");
    // First only the lake is slow, then Kafka is suspended too.
    proxy.set(ProxyMode::Throttled(20_000));
    tokio::time::sleep(Duration::from_secs(8)).await;
    signal(&kafka, "-STOP");
    proxy.set(ProxyMode::Open);
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(8) {
        assert!(peak(&running) < limit, "{} MiB", peak(&running));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    signal(&kafka, "-CONT");
    let mut most = peak(&running);
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", running.pid())) {
        if !status.contains("VmHWM") {
            break;
        }
        most = peak(&running);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.wait().expect_code(0);
    eprintln!("peak {most} MiB of {limit}");
    assert!(most < limit, "{most} MiB");
    verify(&target, "small").await;
}

#[tokio::test]
#[ignore = "fault"]
async fn limit_of_512_mib_with_large_segments() {
    stays_under(512, "100k/s").await;
}

#[tokio::test]
#[ignore = "fault"]
async fn limit_of_256_mib() {
    stays_under(256, "10M/day").await;
}
