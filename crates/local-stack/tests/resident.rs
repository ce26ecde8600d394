//! The `local-stack` program: repeated `up`, complete `down`, occupied ports, stale pid files. Ports and data differ
//! from those of a developer's running stack.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use common::{eventually, exists, listed_buckets, query_one, topics};
use local_stack::S3Access;
use local_stack::defaults::{BUCKET, S3_ACCESS_KEY, S3_REGION, S3_SECRET_KEY};
use tempfile::TempDir;

/// A dedicated stack of the program. Dropping it stops the servers, even after a failed test.
struct Place {
    folder: TempDir,
    ports: [u16; 3],
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, ports: [free_port(), free_port(), free_port()] }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local-stack"));
        command.args(words).env("LOCAL_STACK_DATA_DIR", self.data());
        if words[0] == "up" {
            let names = ["LOCAL_STACK_KAFKA_PORT", "LOCAL_STACK_POSTGRES_PORT", "LOCAL_STACK_S3_PORT"];
            command.envs(names.iter().zip(self.ports.map(|port| port.to_string())));
        }
        command
    }

    /// Runs the program, expects success, and returns its standard output and error.
    fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let text = text(&output);
        assert!(output.status.success(), "{words:?}: {text}");
        text
    }

    fn pid(&self, name: &str) -> u32 {
        let text = fs::read_to_string(self.data().join(format!("{name}.pid"))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["process"]["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn pids(&self) -> [u32; 3] {
        ["kafka", "postgres", "s3"].map(|name| self.pid(name))
    }

    fn database_url(&self) -> String {
        format!("postgres://admin:admin@127.0.0.1:{}/warehouse", self.ports[1])
    }

    fn s3(&self) -> S3Access {
        S3Access {
            endpoint: format!("http://127.0.0.1:{}", self.ports[2]),
            access_key: S3_ACCESS_KEY.to_owned(),
            secret_key: S3_SECRET_KEY.to_owned(),
            region: S3_REGION.to_owned(),
            bucket: BUCKET.to_owned(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.run(&["down", "--purge"]);
    }
}

#[test]
fn up_twice_down_and_up_again() {
    let place = Place::new();
    assert_eq!(place.run(&["status"]).status.code(), Some(3));
    place.must(&["up"]);
    let pids = place.pids();
    assert!(topics(&format!("127.0.0.1:{}", place.ports[0])).is_empty());
    query_one(&place.database_url(), "CREATE TABLE kept AS SELECT 1; SELECT 1");
    assert_eq!(listed_buckets(&place.s3()), [BUCKET]);
    common::put(&place.s3(), BUCKET, "kept", b"bytes").unwrap();

    assert_eq!(place.must(&["up"]).matches("already running").count(), 3);
    assert_eq!(place.pids(), pids, "the same processes");
    assert_eq!(place.must(&["status"]).matches("running").count(), 3);
    assert!(place.must(&["logs", "postgres", "-n", "100"]).contains("ready to accept connections"));
    assert_eq!(place.must(&["logs", "-n", "1"]).lines().count(), 3);
    lines_become_records(&place);

    place.must(&["down"]);
    assert!(!pids.iter().any(|pid| exists(*pid)));
    assert!(place.must(&["down"]).contains("no server was running"));

    place.must(&["up"]);
    assert_eq!(query_one(&place.database_url(), "SELECT count(*)::text FROM kept"), "1");
    assert_eq!(common::get(&place.s3(), "kept"), b"bytes");
    let pids = place.pids();
    place.must(&["down", "--purge"]);
    assert!(!pids.iter().any(|pid| exists(*pid)));
    assert!(!place.data().exists());
}

/// Sends two lines, the second without its line end, and reads the records.
fn lines_become_records(place: &Place) {
    let broker = format!("127.0.0.1:{}", place.ports[0]);
    common::create_topic(&broker, "by-hand", 2);
    let mut command = place.command(&["produce", "--topic", "by-hand", "--partition", "1", "--key", "k"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("not JSON\n{\"half\":".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output), "by-hand/1 offset 0\nby-hand/1 offset 1\n");
    let keyed = |value: &str| ("k".to_owned(), value.to_owned());
    assert_eq!(common::records(&broker, "by-hand", 1, 2), [keyed("not JSON"), keyed("{\"half\":")]);
}

#[test]
fn a_server_that_died_is_told_and_started_again() {
    let place = Place::new();
    place.must(&["up"]);
    let old = place.pids();
    assert!(Command::new("kill").args(["-KILL", &old[2].to_string()]).status().unwrap().success());
    eventually("S3 has died", || !exists(old[2]));
    let status = place.run(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    assert!(text(&status).contains("died"), "{}", text(&status));
    place.must(&["up"]);
    let new = place.pids();
    assert_eq!(new[..2], old[..2]);
    assert_ne!(new[2], old[2]);
}

#[test]
fn a_pid_that_now_is_another_process_is_left_alone() {
    let place = Place::new();
    place.must(&["up"]);
    place.must(&["down"]);
    // State after a crash: the process ID was reused, here by this test.
    let us = std::process::id();
    let record = serde_json::json!({
        "process": {"pid": us, "start_ticks": 1}, "port": place.ports[2], "all_ports": [], "since": 0
    });
    fs::write(place.data().join("s3.pid"), record.to_string()).unwrap();
    assert!(text(&place.run(&["status"])).contains("died"));
    place.must(&["up"]);
    assert_ne!(place.pid("s3"), us);
    place.must(&["down"]);
    assert!(exists(us), "and we are still here");
}

#[test]
fn a_taken_port_names_its_holder() {
    let place = Place::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, place.ports[1])).unwrap();
    let output = place.run(&["up"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(&format!("port {}", place.ports[1])), "{text}");
    assert!(text.contains(&format!("process {} (", std::process::id())), "{text}");
    assert!(text.contains("--postgres-port"), "{text}");
    drop(listener);
    place.must(&["up"]);
}

#[test]
fn another_port_than_the_running_one_is_refused() {
    let place = Place::new();
    place.must(&["up"]);
    let port = free_port().to_string();
    let output = place.run(&["up", "--kafka-port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("already runs on port {}", place.ports[0])), "{}", text(&output));
}

#[test]
fn two_at_once_start_one_stack() {
    let place = Place::new();
    let outputs = std::thread::scope(|scope| {
        [scope.spawn(|| place.run(&["up"])), scope.spawn(|| place.run(&["up"]))].map(|thread| thread.join().unwrap())
    });
    let texts = outputs.each_ref().map(text);
    assert!(outputs.iter().all(|output| output.status.success()), "{texts:?}");
    assert_eq!(texts.iter().map(|text| text.matches("started in").count()).sum::<usize>(), 3, "{texts:?}");
}

#[test]
fn data_below_a_folder_that_postgres_cannot_reach() {
    let place = Place::new();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    place.must(&["up"]);
    assert_eq!(query_one(&place.database_url(), "SELECT 'yes'::text"), "yes");
    let status = place.must(&["status"]);
    let outside: Vec<&str> =
        status.split_whitespace().filter(|word| word.starts_with("/var/tmp/local-stack-")).collect();
    // An ordinary user's PostgreSQL runs as that user, who can reach the folder.
    let are_root = fs::metadata(place.folder.path().join("data/postgres")).is_err();
    assert_eq!(outside.len(), usize::from(are_root), "{status}");
    place.must(&["down", "--purge"]);
    assert!(outside.iter().all(|folder| !fs::exists(folder).unwrap()));
}

#[test]
fn missing_programs_name_the_command_that_fetches_them() {
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_local-stack"))
        .arg("up")
        .env("LOCAL_STACK_DIR", place.folder.path().join("nothing"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("run scripts/setup"), "{}", text(&output));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Returns a free port below the range that the library allocates from.
fn free_port() -> u16 {
    static TURN: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 4_000).unwrap();
        let port = 10_000 + (start + turn) % 5_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
