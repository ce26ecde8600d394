//! Kills the generator at each failpoint and resumes the run.

use std::process::Command;
use std::time::{Duration, Instant};

use lake::{Counts, End};
use local_stack::{Kafka, S3};

use crate::fake_s3::FakeS3;
use crate::program::{Exited, Running, publish, run};
use crate::servers::{Target, target};
use crate::stores::records_in;
use crate::verification::verify;

const FAULTS: &str = "--fault invalid=1% --fault corrupt=0.5% --fault duplicate=2%";
/// A run of five segments, the last one short.
const RUN: &str = "--rate max --count 150k --seed 7";

fn with_failpoint(mut command: Command, failpoints: &str) -> Command {
    command.env("FAILPOINTS", failpoints);
    command
}

fn resume(target: &Target, run: &str) -> Command {
    publish(target, &format!("--resume --run-id {run}"))
}

/// Kills a run at a failpoint twice, resumes it, and verifies the stores. Returns the counts of its manifest.
async fn killed_at(point: &str, first: u32, second: u32) -> Counts {
    let target = target();
    let flags = format!("{RUN} {FAULTS} --run-id {point} --from 2026-11-22T09:00:00Z");
    let done = run(with_failpoint(publish(&target, &flags), &format!("{point}=kill@{first}"))).expect_killed();
    assert!(done.stderr.contains(&format!("failpoint {point}")), "{done:?}");
    let after_first = records_in(&target);

    run(publish(&target, &flags)).expect_error(2, &[point, "not finished", "--resume"]);
    assert_eq!(records_in(&target), after_first, "nothing was sent");
    run(with_failpoint(resume(&target, point), &format!("{point}=kill@{second}"))).expect_killed();
    run(resume(&target, point)).expect_code(0);

    let manifest = verify(&target, point).await;
    assert_eq!((manifest.end, manifest.next_index, manifest.resumes), (Some(End::CountReached), 150_000, 2));
    assert_eq!(manifest.first_index, 0);
    let local = target.state.path().join(point).join("manifest.json");
    assert_eq!(std::fs::read(local).unwrap(), manifest.to_json().unwrap());
    run(resume(&target, point)).expect_error(2, &["no such unfinished run", point]);
    manifest.counts
}

#[tokio::test]
async fn after_sending() {
    killed_at("after-send", 60_000, 100).await;
}

#[tokio::test]
async fn after_an_acknowledgement() {
    killed_at("after-ack", 60_000, 100).await;
}

#[tokio::test]
async fn before_an_upload() {
    killed_at("before-put", 3, 1).await;
}

#[tokio::test]
async fn after_an_upload() {
    killed_at("after-put", 3, 2).await;
}

#[tokio::test]
async fn after_a_checkpoint() {
    killed_at("after-state", 3, 1).await;
}

#[tokio::test]
async fn before_the_manifest_with_the_counts_of_an_undisturbed_run() {
    let counts = killed_at("before-manifest", 1, 1).await;
    let target = target();
    let flags = format!("{RUN} {FAULTS} --run-id before-manifest --from 2026-11-22T09:00:00Z");
    run(publish(&target, &flags)).expect_code(0);
    assert_eq!(verify(&target, "before-manifest").await.counts, counts);
}

/// Waits until the topic has some records more.
fn wait_for_records(target: &Target, more: i64) {
    let (deadline, before) = (Instant::now() + Duration::from_mins(1), records_in(target));
    while records_in(target) < before + more {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
}

fn kill(mut running: Running) {
    running.wait_for("run started");
    running.signal("-KILL");
    running.wait().expect_killed();
}

/// A segment of this run has 466,033 events, so the first one is not stored before the run ends.
#[tokio::test]
async fn a_killed_run_sends_the_records_of_a_checkpoint_interval_again() {
    let target = target();
    let mut running = Running::start(publish(&target, "--rate 2000/s --duration 20s --run-id often"));
    for _ in 0..4 {
        wait_for_records(&target, 6_000);
        kill(running);
        running = Running::start(resume(&target, "often"));
    }
    running.wait().expect_code(0);
    let manifest = verify(&target, "often").await;
    assert_eq!((manifest.next_index, manifest.resumes), (40_000, 4));
    let again = records_in(&target) - 40_000;
    eprintln!("{again} records were sent again after 4 kills");
    // Three seconds a kill: an interval, and what a busy machine needs to write the state.
    assert!(again < 4 * 3 * 2_000, "{again}");
}

/// The lake accepts nothing, so the run stops when enough segments wait for it. Kafka has acknowledged all of them.
#[tokio::test]
async fn a_run_killed_during_an_outage_of_the_lake_sends_nothing_again() {
    let s3 = S3::ephemeral().unwrap();
    let fake = FakeS3::proxy_to(s3.port());
    let target = Target { s3: s3.access(), ..target() };
    let mut proxied = target.clone();
    proxied.s3.endpoint.clone_from(&fake.endpoint);
    fake.set_rejects_files(true);
    let flags = format!("--rate max --count 400k --seed 7 {FAULTS} --run-id behind --from 2026-11-22T09:00:00Z");
    let running = Running::start(publish(&proxied, &flags));
    wait_for_records(&target, 100_000);
    let (mut records, mut since) = (records_in(&target), Instant::now());
    while since.elapsed() < Duration::from_secs(5) {
        let now = records_in(&target);
        if now != records {
            (records, since) = (now, Instant::now());
        }
    }
    kill(running);
    fake.set_rejects_files(false);
    run(resume(&proxied, "behind")).expect_code(0);
    let manifest = verify(&target, "behind").await;
    assert_eq!((manifest.next_index, manifest.resumes), (400_000, 1));
    assert_eq!(u64::try_from(records_in(&target)).unwrap(), manifest.kafka.unwrap().records);
}

/// Acknowledged records are not sent again, so the topic must still have them.
#[tokio::test]
async fn a_run_is_not_resumed_into_another_topic_of_the_same_name() {
    let (target, other) = (target(), Kafka::ephemeral().unwrap());
    let flags = format!("{RUN} --run-id moved --from 2026-11-22T09:00:00Z");
    run(with_failpoint(publish(&target, &flags), "before-manifest=kill")).expect_killed();
    let elsewhere = Target { bootstrap_servers: other.bootstrap_servers(), ..target.clone() };
    let lacks = format!("topic {} lacks ", target.topic);
    run(resume(&elsewhere, "moved")).expect_error(1, &[&lacks, "--seed 7 --from 2026-11-22T09", "--bootstrap-servers"]);
    assert_eq!(records_in(&elsewhere), 0);
    run(resume(&target, "moved")).expect_code(0);
    verify(&target, "moved").await;
}

#[tokio::test]
async fn a_killed_republication_is_resumed() {
    let target = target();
    let flags = format!("{RUN} {FAULTS} --run-id twice --from 2026-11-22T09:00:00Z");
    run(publish(&target, &flags)).expect_code(0);
    let (first, records) = (verify(&target, "twice").await, records_in(&target));
    let republish = || publish(&target, &format!("{flags} --republish"));
    run(with_failpoint(republish(), "after-ack=kill@60000")).expect_killed();
    run(republish()).expect_error(2, &["twice", "not finished", "--resume"]);
    run(resume(&target, "twice")).expect_code(0);
    assert!(records_in(&target) >= 2 * records);
    let again = verify(&target, "twice").await;
    assert_eq!((again.counts, again.end, again.resumes), (first.counts, first.end, 2));
}

#[tokio::test]
async fn a_resumed_run_does_not_end_before_the_events_already_sent() {
    let target = target();
    let flags = "--rate 20k/s --run-id owed";
    run(with_failpoint(publish(&target, flags), "after-send=kill@40000")).expect_killed();
    let sent = records_in(&target);
    assert!(sent > 10_000, "{sent}");
    let mut running = Running::start(resume(&target, "owed"));
    running.wait_for("run started");
    running.signal("-INT");
    running.wait().expect_code(0);
    let manifest = verify(&target, "owed").await;
    assert!(manifest.next_index >= 40_000 && manifest.end == Some(End::Stopped), "{manifest:?}");
}

#[tokio::test]
async fn a_resume_with_other_settings_is_rejected() {
    let target = target();
    run(with_failpoint(publish(&target, "--rate max --count 100k --users 500 --run-id other"), "after-state=kill@2"))
        .expect_killed();
    let with = |flags: &str| {
        let mut command = resume(&target, "other");
        command.args(flags.split_whitespace());
        run(command)
    };
    with("--users 1000").expect_error(2, &["world.users (500 saved, 1000 given)"]);
    with("--seed 1").expect_error(2, &["seed"]);
    with("--no-lake").expect_error(2, &["lake"]);
    with("--count 10").expect_error(2, &["cannot end after 10"]);
    with("--threads 2").expect_code(0);
    verify(&target, "other").await;
}

#[tokio::test]
async fn a_second_process_is_rejected_and_names_the_first() {
    let target = target();
    let flags = "--rate 100/s --run-id mine";
    let mut running = Running::start(publish(&target, flags));
    running.wait_for("run started");
    let pid = format!("process {}", running.pid());
    run(publish(&target, flags)).expect_error(1, &["mine", &pid]);
    running.signal("-KILL");
    running.wait().expect_killed();
    run(publish(&target, &format!("{flags} --count 200 --seed 9"))).expect_error(2, &["not finished"]);
}

#[tokio::test]
async fn a_supervisor_repeats_the_same_command() {
    let target = target();
    let start = || publish(&target, &format!("{RUN} {FAULTS} --run-id job --resume-or-start"));
    run(with_failpoint(start(), "after-ack=kill@60000")).expect_killed();
    run(start()).expect_code(0);
    let manifest = verify(&target, "job").await;
    assert_eq!((manifest.end, manifest.next_index, manifest.resumes), (Some(End::CountReached), 150_000, 1));

    let records = records_in(&target);
    let ended = |done: Exited| done.expect_code(0).stderr.contains("run already finished");
    assert!(ended(run(start())), "its manifest is on this host");
    std::fs::remove_dir_all(target.state.path().join("job")).unwrap();
    assert!(ended(run(start())), "its manifest is in the lake");
    assert_eq!(records_in(&target), records, "nothing was sent");
}
