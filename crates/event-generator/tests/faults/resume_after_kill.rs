//! Kills the generator at each failpoint and resumes the run.

use std::process::Command;

use lake::{Counts, End};

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
