//! Processes and servers that are killed, a consumer that is suspended, and transactions in doubt.

use std::thread;
use std::time::{Duration, Instant};

use local_stack::proxy::{CutAt, ProxyMode};

use crate::consumer_process::{Member, offsets, rows};
use crate::support::{generator, number, succeed};
use crate::test_topic::{caught_up, ends, holds, publish};

use super::cluster::Cluster;
use super::{IN_DOUBT, cluster_or_return, failed_checks, features, refine, table_rows};

/// Starts a consumer whose batches are small enough for a fault between two of them.
fn member(cluster: &Cluster) -> Member {
    Member::of(&cluster.stack, &["--batch-rows", "2000", "--group-instance-id", "member"])
}

/// Waits until no transaction is in doubt, then verifies.
fn verified(cluster: &Cluster, run: &str) {
    let deadline = Instant::now() + IN_DOUBT;
    while cluster.prepared() > 0 {
        assert!(Instant::now() < deadline, "transactions are still prepared");
        thread::sleep(Duration::from_millis(100));
    }
    holds(&cluster.stack, run);
    refine(cluster, &[]);
    assert_eq!(failed_checks(cluster), Vec::<String>::new());
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_consumer_is_killed_at_each_failpoint() {
    let cluster = cluster_or_return!("killed");
    publish(&cluster.stack, "killed", 400_000);
    for point in ["after-partition", "after-cas", "during-copy", "after-copy", "before-commit", "after-commit"] {
        let before = rows(&cluster.stack);
        let arguments = ["--batch-rows", "2000", "--group-instance-id", "member"];
        let said = Member::failing(&cluster.stack, &format!("{point}=kill@20"), &arguments).was_killed();
        assert!(said.contains(&format!("failpoint {point}")) && rows(&cluster.stack) > before, "{said}");
    }
    Member::of(&cluster.stack, &["--until-caught-up", "--group-instance-id", "member"]).ended_with(0);
    verified(&cluster, "killed");
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn each_server_crashes_and_recovers_while_a_consumer_loads() {
    let cluster = cluster_or_return!("crashes");
    publish(&cluster.stack, "crashes", 400_000);
    let mut member = member(&cluster);
    for server in [1, 0, 2, 0] {
        let before = rows(&cluster.stack);
        member.until("rows", |_| rows(&cluster.stack) > before + 20_000);
        assert_ne!(offsets(&cluster.stack), ends(&cluster.stack), "all is loaded before server {server} crashes");
        cluster.crash(server);
    }
    caught_up(&cluster.stack, &mut member, Duration::from_mins(1));
    let said = member.stop();
    assert!(said.matches("postgres retry").count() >= 2, "{said}");
    verified(&cluster, "crashes");
}

/// The worker loses the connection when it is to commit a prepared transaction. The coordinator has committed: the
/// offsets and notes are visible, the rows are not.
#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_refinement_waits_for_the_rows_of_its_notes() {
    let cluster = cluster_or_return!("in_doubt");
    // The table partitions exist, so that only transactions with rows are cut.
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    for day in 0..6 {
        cluster.superuser(&format!("SELECT pipeline.ensure_partition(date '2026-11-10' + {day})"));
    }
    let mut in_doubt = 0;
    for round in 0..6 {
        // No two rounds share an hour, so that no later note makes up for a lost one.
        old_events(&cluster, &format!("in-doubt-{round}"), 10 + round);
        let worker = &cluster.workers[round % 2];
        let cuts = worker.seen().triggered;
        worker.cut_at(b"COMMIT PREPARED", CutAt::Request);
        Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
        assert!(worker.seen().triggered > cuts, "round {round}: no transaction was committed on the worker");
        in_doubt += cluster.prepared();
        refine(&cluster, &[]);
    }
    assert!(in_doubt >= 3, "only {in_doubt} transactions were in doubt before a refinement");
    notes_led_to_all_rows(&cluster);
    assert_eq!(table_rows(&cluster), 18_000);
}

/// The workers commit long after the coordinator, because each message to them is late.
#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn refinements_run_while_commits_are_late() {
    let cluster = cluster_or_return!("late");
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    cluster.superuser("SELECT pipeline.ensure_partition('2026-11-10')");
    old_events(&cluster, "late", 10);
    let delay = |mode| cluster.workers.iter().for_each(|worker| worker.set(mode));
    delay(ProxyMode::Delayed(Duration::from_millis(100)));
    let member = Member::of(&cluster.stack, &["--until-caught-up", "--batch-rows", "100", "--writers", "1"]);
    let loading = thread::spawn(move || member.ended(Duration::from_mins(4)));
    let mut refined = 0;
    while !loading.is_finished() {
        refine(&cluster, &["--as-of", AS_OF]);
        refined += 1;
    }
    let (status, said) = loading.join().unwrap();
    assert!(status.success(), "{said}");
    delay(ProxyMode::Open);
    assert!(refined > 2, "only {refined} refinements");
    notes_led_to_all_rows(&cluster);
    holds(&cluster.stack, "late");
}

/// End of the windows, after all events.
const AS_OF: &str = "2026-11-20T00:00:00Z";

/// Refines by the notes, then from the whole table, and compares.
fn notes_led_to_all_rows(cluster: &Cluster) {
    refine(cluster, &["--as-of", AS_OF]);
    let by_notes = features(&cluster.stack.database_url());
    refine(cluster, &["--as-of", AS_OF, "--all"]);
    assert_eq!(by_notes, features(&cluster.stack.database_url()), "the notes led to all rows");
    assert_eq!(number(&cluster.stack, "SELECT count(*) FROM pipeline.touched_hours"), 0);
}

/// The coordinator has the table partition, the worker not yet.
#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_table_partition_in_doubt_is_waited_for() {
    let cluster = cluster_or_return!("partition");
    // Creates the table partition of the next day, so that the cut does not hit that one.
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    old_events(&cluster, "partition", 10);
    for worker in &cluster.workers {
        worker.cut_at(b"COMMIT PREPARED", CutAt::Request);
    }
    // Longer than a consumer tries again.
    cluster.superuser("ALTER SYSTEM SET citus.recover_2pc_interval = '20s'");
    cluster.superuser("SELECT pg_reload_conf()");
    let (status, said) = Member::of(&cluster.stack, &["--until-caught-up"]).ended(Duration::from_mins(2));
    cluster.superuser("ALTER SYSTEM RESET citus.recover_2pc_interval");
    cluster.superuser("SELECT pg_reload_conf()");
    assert!(status.success(), "{said}");
    assert!(cluster.workers.iter().all(|worker| worker.seen().triggered == 1));
    assert_eq!(table_rows(&cluster), 3_000);
    holds(&cluster.stack, "partition");
}

/// Publishes 3,000 events of a day of 2026-11.
fn old_events(cluster: &Cluster, run: &str, day: usize) {
    let mut made = generator(&cluster.stack);
    made.args(["--run-id", run, "--from", &format!("2026-11-{day}T00:00:00Z"), "--count", "3000"]);
    made.args(["--event-rate", "3000/day", "--accounts", "100"]);
    succeed(made);
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_suspended_consumer_is_taken_over_within_twenty_seconds() {
    let cluster = cluster_or_return!("takeover");
    publish(&cluster.stack, "takeover", 100_000);
    for point in ["during-copy", "before-commit"] {
        let arguments = ["--batch-rows", "2000", "-X", "session.timeout.ms=6000"];
        let mut stopped = Member::failing(&cluster.stack, &format!("{point}=stop@3"), &arguments);
        stopped.until_stopped();
        let (began, held) = (Instant::now(), offsets(&cluster.stack));
        let mut other = Member::of(&cluster.stack, &arguments);
        other.until_said("session of a stopped consumer terminated");
        other.until("the stopped one's partitions move", |_| {
            offsets(&cluster.stack).iter().zip(&held).any(|(now, then)| now.1 > then.1)
        });
        let after = began.elapsed();
        eprintln!("{point}: taken over after {:.1} s", after.as_secs_f64());
        assert!(after < Duration::from_secs(20), "{after:?}");
        caught_up(&cluster.stack, &mut other, Duration::from_secs(30));
        stopped.signal("-CONT");
        stopped.until_said("offset moved by another consumer");
        stopped.stop();
        other.stop();
        publish(&cluster.stack, point, 100_000);
    }
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    verified(&cluster, "takeover");
}
