//! Row 1: kill -9 at each failpoint, then `--resume`.

use std::process::Command;

use lake::{Counts, End};

use crate::program::{Done, Running, publish, run};
use crate::servers::{Place, place};
use crate::stores::records_in;
use crate::verification::holds;

const FAULTS: &str = "--fault invalid=1% --fault corrupt=0.5% --fault duplicate=2%";
/// Five segments, the last one short.
const RUN: &str = "--rate max --count 150k --seed 7";

fn failing(mut command: Command, failpoints: &str) -> Command {
    command.env("FAILPOINTS", failpoints);
    command
}

fn resume(place: &Place, run: &str) -> Command {
    publish(place, &format!("--resume --run-id {run}"))
}

/// Kills a run at a place twice, goes on, and lets the verifier judge. What it counted.
async fn killed_at(point: &str, first: u32, second: u32) -> Counts {
    let place = place();
    let flags = format!("{RUN} {FAULTS} --run-id {point} --from 2026-11-22T09:00:00Z");
    let done = run(failing(publish(&place, &flags), &format!("{point}=kill@{first}"))).expect_killed();
    assert!(done.stderr.contains(&format!("failpoint {point}")), "{done:?}");
    let after_first = records_in(&place);

    run(publish(&place, &flags)).expect_error(2, &[point, "not finished", "--resume"]);
    assert_eq!(records_in(&place), after_first, "nothing was sent");
    run(failing(resume(&place, point), &format!("{point}=kill@{second}"))).expect_killed();
    run(resume(&place, point)).expect_code(0);

    let manifest = holds(&place, point).await;
    assert_eq!((manifest.end, manifest.next_index, manifest.resumes), (Some(End::CountReached), 150_000, 2));
    assert_eq!(manifest.first_index, 0);
    let local = place.state.path().join(point).join("manifest.json");
    assert_eq!(std::fs::read(local).unwrap(), manifest.to_json().unwrap());
    run(resume(&place, point)).expect_error(2, &["no unfinished run", point]);
    manifest.counts
}

#[tokio::test]
async fn after_sending() {
    killed_at("after-send", 60_000, 100).await;
}

#[tokio::test]
async fn after_the_answer() {
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
async fn after_the_state() {
    killed_at("after-state", 3, 1).await;
}

#[tokio::test]
async fn before_the_manifest_and_the_counts_are_those_of_a_run_that_was_left_alone() {
    let counts = killed_at("before-manifest", 1, 1).await;
    let place = place();
    let flags = format!("{RUN} {FAULTS} --run-id before-manifest --from 2026-11-22T09:00:00Z");
    run(publish(&place, &flags)).expect_code(0);
    assert_eq!(holds(&place, "before-manifest").await.counts, counts);
}

#[tokio::test]
async fn what_was_sent_is_owed_whoever_asks_for_the_end() {
    let place = place();
    let flags = "--rate 20k/s --run-id owed";
    run(failing(publish(&place, flags), "after-send=kill@40000")).expect_killed();
    let sent = records_in(&place);
    assert!(sent > 10_000, "{sent}");
    let mut running = Running::start(resume(&place, "owed"));
    running.wait_for("run started");
    running.signal("-INT");
    running.wait().expect_code(0);
    let manifest = holds(&place, "owed").await;
    assert!(manifest.next_index >= 40_000 && manifest.end == Some(End::Stopped), "{manifest:?}");
}

#[tokio::test]
async fn another_run_under_its_name_is_refused() {
    let place = place();
    run(failing(publish(&place, "--rate max --count 100k --users 500 --run-id other"), "after-state=kill@2"))
        .expect_killed();
    let with = |flags: &str| {
        let mut command = resume(&place, "other");
        command.args(flags.split_whitespace());
        run(command)
    };
    with("--users 1000").expect_error(2, &["world.users (500 then, 1000 now)"]);
    with("--seed 1").expect_error(2, &["seed"]);
    with("--no-lake").expect_error(2, &["lake"]);
    with("--count 10").expect_error(2, &["it can't end after 10"]);
    with("--threads 2").expect_code(0);
    holds(&place, "other").await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_the_run() {
    let place = place();
    let flags = "--rate 100/s --run-id mine";
    let mut running = Running::start(publish(&place, flags));
    running.wait_for("run started");
    let pid = format!("process {}", running.pid());
    run(publish(&place, flags)).expect_error(1, &["mine", &pid]);
    running.signal("-KILL");
    running.wait().expect_killed();
    run(publish(&place, &format!("{flags} --count 200 --seed 9"))).expect_error(2, &["not finished"]);
}

#[tokio::test]
async fn a_supervisor_starts_the_same_command_again_and_again() {
    let place = place();
    let start = || publish(&place, &format!("{RUN} {FAULTS} --run-id job --resume-if-begun"));
    run(failing(start(), "after-ack=kill@60000")).expect_killed();
    run(start()).expect_code(0);
    let manifest = holds(&place, "job").await;
    assert_eq!((manifest.end, manifest.next_index, manifest.resumes), (Some(End::CountReached), 150_000, 1));

    let records = records_in(&place);
    let ended = |done: Done| done.expect_code(0).stderr.contains("run was finished already");
    assert!(ended(run(start())), "its manifest is on this host");
    std::fs::remove_dir_all(place.state.path().join("job")).unwrap();
    assert!(ended(run(start())), "its manifest is in the lake");
    assert_eq!(records_in(&place), records, "nothing was sent");
}
