//! Probes and metrics of a running generator.

use std::time::{Duration, Instant};

use local_stack::{Kafka, S3};
use pipeline_runtime::http::get;

use crate::fake_s3::FakeS3;
use crate::program::{Running, command, publish, run};
use crate::servers::{Target, target};
use crate::suspended_processes::signal;

const TIMEOUT: Duration = Duration::from_secs(10);

async fn until(address: &str, path: &str, status: u16, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let (found, body) = get(address, path, TIMEOUT).await.unwrap();
        if found == status && body.contains(text) {
            return body;
        }
        assert!(Instant::now() < deadline, "{path}: {found} {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sink that the run does without never makes it unready. Kafka's time limit is the shorter one.
#[tokio::test]
async fn a_run_without_kafka_stays_ready() {
    let target = target();
    let mut running =
        Running::start(publish(&target, "--no-kafka --rate 100/s --http-addr 127.0.0.1:0 --run-id alone"));
    running.wait_for("run started");
    let address = running.line("http listening")["address"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_secs(7)).await;
    until(&address, "/metrics", 200, "event_generator_ready 1").await;
    assert_eq!(get(&address, "/readyz", TIMEOUT).await.unwrap().0, 200);
    running.signal("-TERM");
    running.wait().expect_code(0);
}

#[tokio::test]
async fn probes_and_metrics() {
    let kafka = Kafka::ephemeral().unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let mut running =
        Running::start(publish(&target, "--rate 500/s --fault invalid=10% --http-addr 127.0.0.1:0 --run-id seen"));
    running.wait_for("run started");
    let address = running.line("http listening")["address"].as_str().unwrap().to_owned();
    until(&address, "/readyz", 200, "ok").await;
    until(&address, "/livez", 200, "ok").await;
    let text = until(&address, "/metrics", 200, "event_generator_lake_files_written_total").await;
    assert!(
        text.contains("event_generator_build_info{program=\"event-generator\"") && text.contains("run=\"seen\""),
        "{text}"
    );
    let value = |text: &str, name: &str| -> f64 {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().unwrap()
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut text = text;
    while value(&text, "event_generator_records_acknowledged_total") < 500.0
        || value(&text, "event_generator_schedule_lateness_seconds_count") < 500.0
    {
        assert!(Instant::now() < deadline, "{text}");
        text = until(&address, "/metrics", 200, "event_generator_ready 1").await;
    }
    assert!(value(&text, "event_generator_events_made_total{outcome=\"invalid\"}") > 10.0);

    let healthy = |more: &str| run(command(&format!("healthcheck --http-addr {address} {more}")));
    assert_eq!(healthy("--ready").expect_code(0).stdout, "ok\n");
    signal(&kafka, "-STOP");
    until(&address, "/readyz", 503, "not acknowledged any record").await;
    healthy("").expect_code(0);
    healthy("--ready").expect_error(1, &["503", "not acknowledged any record"]);
    until(&address, "/metrics", 200, "event_generator_ready 0").await;
    signal(&kafka, "-CONT");
    until(&address, "/readyz", 200, "ok").await;
    running.signal("-TERM");
    running.wait().expect_code(0);
    healthy("").expect_error(1, &["no response from", &address]);
}

#[tokio::test]
#[ignore = "fault"]
async fn a_stalled_lake_is_not_ready() {
    let s3 = S3::ephemeral().unwrap();
    let fake = FakeS3::proxy_to(s3.port());
    let mut target = Target { s3: s3.access(), ..target() };
    target.s3.endpoint.clone_from(&fake.endpoint);
    let flags = "--rate 100k/s --http-addr 127.0.0.1:0 --run-id stalled";
    let mut running = Running::start(publish(&target, flags));
    running.wait_for("run started");
    let address = running.line("http listening")["address"].as_str().unwrap().to_owned();
    until(&address, "/readyz", 200, "ok").await;
    fake.set_busy(true);
    until(&address, "/readyz", 503, "the lake has not accepted any file").await;
    fake.set_busy(false);
    until(&address, "/readyz", 200, "ok").await;
    running.signal("-TERM");
    running.wait().expect_code(0);
}
