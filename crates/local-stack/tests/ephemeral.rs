//! Ephemeral servers: they answer, keep their data after a kill, and leave nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{eventually, exists, listed_buckets, query_one, topics};
use local_stack::proxy::ProxyMode;
use local_stack::{Kafka, Postgres, Proxy, S3, Stack};

#[test]
fn a_stack_answers_and_leaves_nothing() {
    let stack = Stack::ephemeral().unwrap();
    assert!(topics(&stack.bootstrap_servers()).is_empty());
    assert_eq!(query_one(&stack.database_url(), "SELECT current_database()"), "warehouse");
    assert_eq!(
        query_one(&stack.database_url(), "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'pipeline%'"),
        "3"
    );
    assert_eq!(listed_buckets(&stack.s3()), [stack.s3().bucket]);

    let pids = [stack.kafka.pid(), stack.postgres.pid(), stack.object_store.pid()].map(Option::unwrap);
    let folders =
        [stack.kafka.log(), stack.postgres.log(), stack.object_store.log()].map(|log| log.parent().unwrap().to_owned());
    let backends = children(stack.postgres.pid().unwrap());
    assert!(!backends.is_empty());
    drop(stack);
    for pid in pids.iter().chain(&backends) {
        assert!(!exists(*pid), "process {pid} is still there");
    }
    for folder in folders {
        assert!(!folder.exists(), "{} is still there", folder.display());
    }
}

#[test]
fn clients_stay_behind_the_proxy_that_they_came_through() {
    let [first, second] = [Proxy::listen().unwrap(), Proxy::listen().unwrap()];
    let mut kafka = Kafka::ephemeral_behind_all(&[&first, &second]).unwrap();
    first.set(ProxyMode::Closed);
    for topic in ["before", "after"] {
        let through = format!("127.0.0.1:{}", second.port());
        let create = ["--bootstrap-server", &through, "--create", "--topic", topic];
        assert!(kafka.tool("org.apache.kafka.tools.TopicCommand", &create).output().unwrap().status.success());
        // New connections after a restart use the proxy, too.
        kafka.restart().unwrap();
    }
    assert_eq!(topics(&kafka.bootstrap_servers()).len(), 2);
    assert!(second.seen().passed > 0);
    assert_eq!(first.seen().accepted, 0);
}

#[test]
fn kafka_keeps_records_over_a_kill() {
    let mut kafka = Kafka::ephemeral().unwrap();
    let servers = kafka.bootstrap_servers();
    let create = ["--bootstrap-server", &servers, "--create", "--topic", "kept"];
    assert!(kafka.tool("org.apache.kafka.tools.TopicCommand", &create).output().unwrap().status.success());
    let mut producer = kafka
        .tool("org.apache.kafka.tools.ConsoleProducer", &["--bootstrap-server", &servers, "--topic", "kept"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    producer.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    assert!(producer.wait().unwrap().success());

    let (port, first) = (kafka.port(), kafka.pid());
    kafka.kill().unwrap();
    assert_eq!(kafka.pid(), None);
    kafka.restart().unwrap();
    assert_ne!(kafka.pid(), first);
    assert_eq!(kafka.port(), port);

    let read = ["--bootstrap-server", &servers, "--topic", "kept", "--from-beginning", "--max-messages", "2"];
    let output = kafka.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &read).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "one\ntwo\n");
}

#[test]
fn kafka_makes_no_topic_by_itself() {
    let kafka = Kafka::ephemeral().unwrap();
    let servers = kafka.bootstrap_servers();
    let read = ["--bootstrap-server", &servers, "--topic", "mistyped", "--timeout-ms", "2000"];
    kafka.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &read).output().unwrap();
    assert!(topics(&servers).is_empty());
}

#[test]
fn postgres_keeps_rows_over_a_kill_and_a_stop() {
    let mut postgres = Postgres::ephemeral().unwrap();
    let url = postgres.url();
    query_one(&url, "CREATE TABLE kept AS SELECT 'row'::text AS name; SELECT name FROM kept");
    postgres.kill().unwrap();
    postgres.restart().unwrap();
    assert_eq!(query_one(&url, "SELECT name FROM kept"), "row");
    postgres.stop().unwrap();
    postgres.restart().unwrap();
    assert_eq!(query_one(&url, "SELECT name FROM kept"), "row");
}

#[test]
fn s3_keeps_objects_over_a_kill_and_makes_no_bucket_by_itself() {
    let mut s3 = S3::ephemeral().unwrap();
    let access = s3.access();
    common::put(&access, &access.bucket, "a/key", b"bytes").unwrap();
    assert!(common::put(&access, "mistyped", "a/key", b"bytes").is_err());
    s3.kill().unwrap();
    s3.restart().unwrap();
    assert_eq!(common::get(&access, "a/key"), b"bytes");
    assert_eq!(listed_buckets(&access), *std::slice::from_ref(&access.bucket));
}

#[tokio::test]
async fn a_server_starts_inside_an_asynchronous_test() {
    let postgres = Postgres::ephemeral().unwrap();
    assert_ne!(postgres.port(), 0);
}

#[test]
fn stacks_start_beside_each_other() {
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(Postgres::ephemeral)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    let mut ports: Vec<u16> = all.iter().map(Postgres::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4);
}

/// Body of the process that the test below kills; does nothing in a normal test run.
#[test]
fn holds_a_server_until_it_is_killed() {
    if let Some(file) = std::env::var_os("LOCAL_STACK_TEST_HOLD") {
        let servers = (Postgres::ephemeral().unwrap(), S3::ephemeral().unwrap());
        let text = format!(
            "{} {} {}",
            servers.0.pid().unwrap(),
            servers.1.pid().unwrap(),
            servers.0.log().parent().unwrap().display()
        );
        let unfinished = PathBuf::from(&file).with_extension("new");
        std::fs::write(&unfinished, text).unwrap();
        std::fs::rename(unfinished, file).unwrap();
        std::thread::sleep(Duration::from_mins(2));
    }
}

#[test]
fn a_killed_test_takes_its_servers_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("held");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_server_until_it_is_killed"])
        .env("LOCAL_STACK_TEST_HOLD", &file)
        .spawn()
        .unwrap();
    eventually("the servers run", || file.exists());
    let text = std::fs::read_to_string(&file).unwrap();
    let mut words = text.split(' ');
    let pids: Vec<u32> = words.by_ref().take(2).map(|word| word.parse().unwrap()).collect();
    let data = PathBuf::from(words.next().unwrap());
    assert!(pids.iter().all(|pid| exists(*pid)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the servers have ended", || !pids.iter().any(|pid| exists(*pid)));
    eventually("the folder is gone", || !data.exists());
}

/// Returns the child processes of `pid`.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}
