//! A lake that is busy, loses responses, crashes, or overwrites files.

use std::time::{Duration, Instant};

use local_stack::proxy::CutAt;
use local_stack::{Proxy, S3};

use crate::fake_s3::FakeS3;
use crate::program::{Running, publish, run};
use crate::servers::{Target, target};
use crate::verification::verify;

fn proxied(target: &Target, endpoint: String) -> Target {
    let mut proxied = target.clone();
    proxied.s3.endpoint = endpoint;
    proxied
}

async fn busy_for(time: Duration) {
    let s3 = S3::ephemeral().unwrap();
    let fake = FakeS3::proxy_to(s3.port());
    let target = Target { s3: s3.access(), ..target() };
    let seconds = time.as_secs() + 10;
    let flags = format!("--rate 20k/s --duration {seconds}s --run-id busy");
    let mut running = Running::start(publish(&proxied(&target, fake.endpoint.clone()), &flags));
    running.wait_for("run started");
    fake.set_busy(true);
    running.wait_for("lake retry");
    tokio::time::sleep(time).await;
    fake.set_busy(false);
    running.wait().expect_code(0);
    assert!(fake.rejected() > 3, "{}", fake.rejected());
    let manifest = verify(&target, "busy").await;
    assert_eq!(manifest.next_index, 20_000 * seconds);
}

#[tokio::test]
async fn busy_for_three_seconds() {
    busy_for(Duration::from_secs(3)).await;
}

#[tokio::test]
#[ignore = "fault"]
async fn busy_for_two_minutes() {
    busy_for(Duration::from_mins(2)).await;
}

/// Cuts the connection at the first raw file.
async fn cut_once(at: CutAt, id: &str) {
    let s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let target = Target { s3: s3.access(), ..target() };
    proxy.cut_at(b"/raw/", at);
    let proxied = proxied(&target, format!("http://127.0.0.1:{}", proxy.port()));
    let done = run(publish(&proxied, &format!("--rate max --count 100k --run-id {id}"))).expect_code(0);
    assert_eq!(proxy.seen().triggered, 1);
    assert!(done.stderr.contains("lake retry"), "{done:?}");
    verify(&target, id).await;
}

#[tokio::test]
async fn the_response_to_a_put_is_lost() {
    cut_once(CutAt::Answer, "answer").await;
}

#[tokio::test]
async fn a_put_is_interrupted() {
    cut_once(CutAt::Request, "request").await;
}

#[tokio::test]
async fn killed_during_uploads() {
    let mut s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let target = Target { s3: s3.access(), ..target() };
    let proxied = proxied(&target, format!("http://127.0.0.1:{}", proxy.port()));
    let mut running = Running::start(publish(&proxied, "--rate max --count 1M --run-id killed"));
    running.wait_for("run started");
    let (deadline, first) = (Instant::now() + Duration::from_mins(1), proxy.seen().passed);
    while proxy.seen().passed < first + 3_000_000 {
        assert!(Instant::now() < deadline, "nothing is written");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    s3.kill().unwrap();
    running.wait_for("lake retry");
    s3.restart().unwrap();
    running.wait().expect_code(0);
    verify(&target, "killed").await;
}

#[tokio::test]
async fn a_lake_without_conditional_puts_is_reported() {
    let fake = FakeS3::without_conditions();
    let target = proxied(&target(), fake.endpoint.clone());
    let flags = "--rate 1000/s --duration 2s --no-kafka";
    let done = run(publish(&target, flags)).expect_code(0);
    assert!(done.stderr.contains("ignores If-None-Match"), "{done:?}");
    let sound = run(publish(&crate::servers::target(), flags)).expect_code(0);
    assert!(!sound.stderr.contains("If-None-Match"), "{sound:?}");
}

/// A bucket with versioning keeps each draft, so a short run writes one. The second request checks `If-None-Match`.
#[tokio::test]
async fn a_short_run_writes_one_draft() {
    let s3 = S3::ephemeral().unwrap();
    let fake = FakeS3::proxy_to(s3.port());
    let target = Target { s3: s3.access(), ..target() };
    let flags = "--rate 1000/s --duration 2s --run-id short";
    run(publish(&proxied(&target, fake.endpoint.clone()), flags)).expect_code(0);
    assert_eq!(fake.drafts(), 2);
    verify(&target, "short").await;
}
