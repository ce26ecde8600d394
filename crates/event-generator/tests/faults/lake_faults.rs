//! Rows 13-16: a lake that is busy, whose answers are lost, that dies, that overwrites.

use std::time::{Duration, Instant};

use local_stack::proxy::CutAt;
use local_stack::{Proxy, S3};

use crate::fake_s3::Front;
use crate::program::{Running, publish, run};
use crate::servers::{Place, place};
use crate::verification::holds;

fn behind(place: &Place, endpoint: String) -> Place {
    let mut behind = place.clone();
    behind.s3.endpoint = endpoint;
    behind
}

async fn busy_for(time: Duration) {
    let s3 = S3::ephemeral().unwrap();
    let front = Front::before(s3.port());
    let place = Place { s3: s3.access(), ..place() };
    let seconds = time.as_secs() + 10;
    let flags = format!("--rate 20k/s --duration {seconds}s --run-id busy");
    let mut running = Running::start(publish(&behind(&place, front.endpoint.clone()), &flags));
    running.wait_for("run started");
    front.set_busy(true);
    running.wait_for("lake_retry");
    tokio::time::sleep(time).await;
    front.set_busy(false);
    running.wait().expect_code(0);
    assert!(front.refused() > 3, "{}", front.refused());
    let manifest = holds(&place, "busy").await;
    assert_eq!(manifest.next_index, 20_000 * seconds);
}

#[tokio::test]
async fn it_is_busy_for_three_seconds() {
    busy_for(Duration::from_secs(3)).await;
}

#[tokio::test]
#[ignore = "fault"]
async fn it_is_busy_for_two_minutes() {
    busy_for(Duration::from_mins(2)).await;
}

/// Cuts the connection at the first file of events.
async fn cut_once(at: CutAt, id: &str) {
    let s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let place = Place { s3: s3.access(), ..place() };
    proxy.cut_at(b"/raw/", at);
    let behind = behind(&place, format!("http://127.0.0.1:{}", proxy.port()));
    let done = run(publish(&behind, &format!("--rate max --count 100k --run-id {id}"))).expect_code(0);
    assert_eq!(proxy.seen().triggered, 1);
    assert!(done.stderr.contains("lake_retry"), "{done:?}");
    holds(&place, id).await;
}

#[tokio::test]
async fn the_answer_to_a_put_is_lost() {
    cut_once(CutAt::Answer, "answer").await;
}

#[tokio::test]
async fn a_put_is_cut_off() {
    cut_once(CutAt::Request, "request").await;
}

#[tokio::test]
async fn it_is_killed_while_it_is_written_to() {
    let mut s3 = S3::ephemeral().unwrap();
    let proxy = Proxy::to(s3.port()).unwrap();
    let place = Place { s3: s3.access(), ..place() };
    let behind = behind(&place, format!("http://127.0.0.1:{}", proxy.port()));
    let mut running = Running::start(publish(&behind, "--rate max --count 1M --run-id killed"));
    running.wait_for("run started");
    let (deadline, first) = (Instant::now() + Duration::from_mins(1), proxy.seen().passed);
    while proxy.seen().passed < first + 3_000_000 {
        assert!(Instant::now() < deadline, "nothing is written");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    s3.kill().unwrap();
    running.wait_for("lake_retry");
    s3.restart().unwrap();
    running.wait().expect_code(0);
    holds(&place, "killed").await;
}

#[tokio::test]
async fn one_that_heeds_no_condition_is_noticed() {
    let front = Front::without_conditions();
    let place = behind(&place(), front.endpoint.clone());
    let flags = "--rate 1000/s --duration 2s --no-kafka";
    let done = run(publish(&place, flags)).expect_code(0);
    assert!(done.stderr.contains("ignores If-None-Match"), "{done:?}");
    let sound = run(publish(&crate::servers::place(), flags)).expect_code(0);
    assert!(!sound.stderr.contains("If-None-Match"), "{sound:?}");
}
