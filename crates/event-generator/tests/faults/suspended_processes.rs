//! A shutdown while Kafka is suspended, and a suspended generator or host.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use local_stack::Kafka;

use crate::program::{Running, publish};
use crate::servers::{Target, target};
use crate::stores::records_in;
use crate::verification::verify;

pub(crate) fn signal(kafka: &Kafka, name: &str) {
    let pid = kafka.pid().unwrap().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[tokio::test]
#[ignore = "fault"]
async fn sigterm_with_a_full_queue() {
    let kafka = Kafka::ephemeral().unwrap();
    let target = Target::on(kafka.bootstrap_servers(), target().s3);
    let mut running = Running::start(publish(&target, "--rate max --count 20M --run-id full"));
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&target) < 50_000 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    signal(&kafka, "-STOP");
    // The queue is full by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.signal("-TERM");
    let asked = Instant::now();
    running.wait().expect_error(1, &["has not acknowledged", "--resume --run-id full"]);
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    signal(&kafka, "-CONT");
    let mut resumed = Running::start(publish(&target, "--resume --run-id full --rate max --count 3M"));
    resumed.wait_for("run started");
    resumed.wait().expect_code(0);
    assert_eq!(verify(&target, "full").await.next_index, 3_000_000);
}

#[tokio::test]
#[ignore = "fault"]
async fn the_generator_is_suspended_for_thirty_seconds() {
    let target = target();
    let mut running = Running::start(publish(&target, "--rate 5000/s --duration 40s --run-id still"));
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&target) < 5_000 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    running.signal("-STOP");
    let stood = records_in(&target);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(records_in(&target) - stood < 10_000, "the generator was not suspended");
    running.signal("-CONT");
    let done = running.wait().expect_code(0);
    assert!(done.line("run ended")["lateness_max_micros"].as_u64().unwrap() > 20_000_000);
    assert!(done.stderr.contains("fell behind its schedule"), "{done:?}");
    assert_eq!(verify(&target, "still").await.next_index, 200_000);
}

/// The monotonic clock stands still while a host is suspended, so a preloaded library advances the other clocks.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_host_is_suspended_for_ten_seconds() {
    let target = target();
    let folder = tempfile::tempdir().unwrap();
    let (library, time) = (folder.path().join("suspended_host.so"), folder.path().join("time"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/suspended_host.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    assert!(compiler.status().unwrap().success(), "{compiler:?}");
    fs::write(&time, 0_i64.to_ne_bytes()).unwrap();

    let mut command = publish(&target, "--rate 500/s --duration 20s --run-id slept");
    command.env("LD_PRELOAD", &library).env("SUSPENDED_FOR", &time);
    let mut running = Running::start(command);
    running.wait_for("run started");
    let deadline = Instant::now() + Duration::from_mins(1);
    while records_in(&target) < 500 {
        assert!(Instant::now() < deadline, "nothing is sent");
    }
    // The file is mapped, so it is not replaced.
    File::options().write(true).open(&time).unwrap().write_all(&10_000_000_i64.to_ne_bytes()).unwrap();
    let done = running.wait().expect_code(0);
    assert!(done.took < Duration::from_secs(18), "the schedule ends ten seconds earlier: {done:?}");
    let ended = done.line("run ended");
    assert!(ended["lateness_max_micros"].as_u64().unwrap() > 8_000_000, "{done:?}");
    assert!(ended["elapsed_seconds"].as_f64().unwrap() > 19.0, "the suspension counts: {done:?}");
    assert!(done.stderr.contains("fell behind its schedule"), "{done:?}");
    assert_eq!(verify(&target, "slept").await.next_index, 10_000);
}
