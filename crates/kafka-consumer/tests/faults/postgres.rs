//! PostgreSQL crashes, terminates sessions, runs out of connections, deadlocks, blocks, and has a full disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use local_stack::Stack;
use tokio_postgres::{Client, NoTls};

use crate::consumer_process::{Member, rows};
use crate::poison::event;
use crate::support::{number, printed_json, program, query, runtime};
use crate::test_topic::{Flow, caught_up, holds, make_topic, publish, send};

/// A transaction that holds locks until it is released.
pub(crate) struct Lock {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Lock {
    pub(crate) fn take(stack: &Stack, statement: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let client = connect(stack).await.unwrap();
            client.batch_execute(&format!("SET application_name = 'a stranger'; BEGIN; {statement}")).await.unwrap();
            client
        });
        Self { runtime, client }
    }

    /// Executes another statement in the transaction.
    fn attempt(&self, statement: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(statement))
    }

    pub(crate) fn release(self) {
        self.runtime.block_on(self.client.batch_execute("ROLLBACK")).unwrap();
    }
}

async fn connect(stack: &Stack) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&stack.database_url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn execute(stack: &Stack, sql: &str) {
    runtime().block_on(async { connect(stack).await.unwrap().batch_execute(sql).await.unwrap() });
}

#[test]
#[ignore = "fault"]
fn the_server_is_killed_and_comes_back() {
    let mut stack = Stack::ephemeral().unwrap();
    let flow = Flow::start(&stack, "power-cut", 3_000, 40);
    let mut member = Member::of(&stack, &[]);
    member.until("rows", |_| rows(&stack) > 1_000);
    for _ in 0..3 {
        let (before, pid) = (rows(&stack), stack.postgres.pid().unwrap());
        stack.postgres.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the postmaster is dead");
        sleep(Duration::from_secs(3));
        stack.postgres.restart().unwrap();
        member.within(Duration::from_secs(15), "rows", |_| rows(&stack) > before);
    }
    assert!(member.times_said("postgres retry") >= 3, "{}", member.said());
    flow.settle(&stack, vec![member], Duration::from_secs(20));
}

#[test]
#[ignore = "fault"]
fn all_sessions_are_ended_again_and_again() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "ended", 300_000);
    let mut member = Member::of(&stack, &["--batch-rows", "2000"]);
    let mut ended = 0;
    for _ in 0..10 {
        let before = rows(&stack);
        member.until("rows", |_| rows(&stack) > before);
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kafka-consumer%'";
        ended += query(&stack, sql).len();
    }
    assert!(ended >= 10, "{ended}");
    caught_up(&stack, &mut member, Duration::from_secs(30));
    assert!(member.stop().contains("postgres retry"));
    holds(&stack, "ended");
}

#[test]
#[ignore = "fault"]
fn there_is_no_room_for_its_sessions() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "crowd", 300_000);
    let mut member = Member::of(&stack, &["--batch-rows", "2000"]);
    member.until("rows", |_| rows(&stack) > 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let crowd = runtime.block_on(async {
        let mut crowd = Vec::new();
        // Opens connections until the server refuses one. Ending the consumer's sessions then frees slots for more of
        // ours.
        for ending in [false, true, true] {
            while let Ok(client) = connect(&stack).await {
                crowd.push(client);
            }
            if ending || crowd.len() > 50 {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kafka-consumer%'";
                crowd[0].batch_execute(sql).await.unwrap();
            }
        }
        while let Ok(client) = connect(&stack).await {
            crowd.push(client);
        }
        crowd
    });
    member.until_said("\"sqlstate\":\"53300\"");
    drop(crowd);
    runtime.shutdown_background();
    caught_up(&stack, &mut member, Duration::from_secs(30));
    member.stop();
    holds(&stack, "crowd");
}

#[test]
#[ignore = "fault"]
fn a_deadlock_with_somebody_else() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "deadlock", 300_000);
    let mut member = Member::of(&stack, &["--batch-rows", "1000", "--writers", "1"]);
    member.until("rows", |_| rows(&stack) > 0);
    let mut round = 0;
    while !member.said().contains("\"sqlstate\":\"40P01\"") {
        round += 1;
        assert!(round < 20, "no deadlock came about");
        // The writer holds the offsets and waits for the table; this transaction holds the table and waits for the
        // offsets.
        let lock = Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN SHARE MODE");
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name LIKE 'kafka-consumer%' AND wait_event_type = 'Lock'";
        member.until("the writer waits", |_| number(&stack, waits) > 0);
        // The writer must be the deadlock victim, hence our long `deadlock_timeout`. If its check ran too early,
        // another round is needed.
        let ours = "SET deadlock_timeout = '1min'; SET lock_timeout = '5s';
            SELECT FROM pipeline.consumer_offsets FOR UPDATE";
        let _ = lock.attempt(ours);
        lock.release();
    }
    caught_up(&stack, &mut member, Duration::from_secs(30));
    member.stop();
    holds(&stack, "deadlock");
}

#[test]
#[ignore = "fault"]
fn a_lock_is_waited_for_longer_than_a_poll_may_take() {
    let stack = Stack::ephemeral().unwrap();
    let flow = Flow::start(&stack, "locked", 3_000, 90);
    let mut member = Member::of(&stack, &["-X", "max.poll.interval.ms=6000"]);
    member.until("rows", |_| rows(&stack) > 1_000);
    for statement in
        ["SELECT FROM pipeline.consumer_offsets FOR UPDATE", "LOCK TABLE staging.product_events_raw IN SHARE MODE"]
    {
        let lock = Lock::take(&stack, statement);
        let before = rows(&stack);
        sleep(Duration::from_secs(35));
        assert_eq!(rows(&stack), before, "nothing passes the lock");
        lock.release();
        member.until("rows", |_| rows(&stack) > before);
    }
    let said = member.said();
    assert!(said.contains("waiting for an offset locked by another program's session"), "{said}");
    assert!(said.contains("\"sqlstate\":\"55P03\""), "{said}");
    assert!(!said.contains("partitions lost") && !said.contains("partitions revoked"), "it stays in the group: {said}");
    flow.settle(&stack, vec![member], Duration::from_secs(30));
}

/// The primary key leads to all versions of a row that an old snapshot keeps, so the updates use the row's address.
#[test]
fn updates_of_the_offsets_search_no_index() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    send(&stack, 0, (1..=10_000).map(event));
    Member::of(&stack, &["--until-caught-up", "--batch-rows", "10"]).ended_with(0);
    let sql = "SELECT n_tup_upd, idx_scan FROM pg_stat_user_tables WHERE relid = 'pipeline.consumer_offsets'::regclass";
    let (updates, searches): (i64, i64) = {
        let row = &query(&stack, sql)[0];
        (row.get(0), row.get(1))
    };
    assert!(updates >= 1_000 && searches < 50, "{searches} searches for {updates} updates");
}

#[test]
#[ignore = "fault"]
fn the_holder_of_an_old_snapshot_is_named() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "snapshot", 1_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let lock = Lock::take(&stack, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    sleep(Duration::from_secs(61));
    let servers = stack.bootstrap_servers();
    // Only a superuser sees the start times of other roles' transactions.
    let output = program(&stack, "admin", &["status", "--json", "--bootstrap-servers", &servers]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &status["old_snapshots"][0];
    assert_eq!((&found["kind"], &found["application"]), (&"session".into(), &"a stranger".into()), "{status}");
    assert!(found["age_seconds"].as_i64() >= Some(60), "{status}");
    let doctor = program(&stack, "admin", &["doctor", "--no-lake", "--bootstrap-servers", &servers]).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && said.contains("pg_terminate_backend"), "{said}");
    lock.release();
    let status = printed_json(&stack, &["status", "--json", "--bootstrap-servers", &servers]);
    assert_eq!(status["old_snapshots"], serde_json::json!([]));
}

/// A small file system for the daily table partitions.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a small file system, or returns `None` without the privilege to mount.
    fn mount(like: &Path) -> Option<Self> {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(folder.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        let owner = fs::metadata(like).unwrap();
        chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        Command::new("chmod").arg("711").arg(folder.path().parent().unwrap().join(folder.path())).status().unwrap();
        Some(Self { folder })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[test]
#[ignore = "fault"]
fn the_disk_is_full_until_there_is_room_again() {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let stack = Stack::ephemeral().unwrap();
    let data = stack.postgres.log().with_file_name("postgres").join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        assert!(!root, "root may mount a tmpfs");
        eprintln!("SKIPPED: the full disk needs root, to mount a small file system");
        return;
    };
    let ballast = disk.folder.path().join("ballast");
    fs::write(&ballast, vec![1; 36 << 20]).unwrap();
    execute(&stack, &format!("CREATE TABLESPACE small LOCATION '{}'", disk.folder.path().display()));
    execute(&stack, "GRANT CREATE ON TABLESPACE small TO PUBLIC");
    execute(&stack, "ALTER DATABASE warehouse SET default_tablespace = small");
    publish(&stack, "full", 200_000);
    let mut member = Member::of(&stack, &[]);
    member.until_said("\"sqlstate\":\"53100\"");
    let before = rows(&stack);
    sleep(Duration::from_secs(2));
    assert_eq!(rows(&stack), before, "nothing goes in");
    fs::remove_file(&ballast).unwrap();
    caught_up(&stack, &mut member, Duration::from_secs(30));
    member.stop();
    holds(&stack, "full");
    drop(stack);
}
