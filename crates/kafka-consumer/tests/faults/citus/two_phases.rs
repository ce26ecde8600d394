//! Rows and offsets commit together only in two phases. What the coordinator sends to the workers shows it.

use crate::consumer_process::Member;
use crate::support::{OWNER, number, printed, program, succeed};
use crate::test_topic::publish;

use super::cluster_or_return;

/// Transactions of one connection from the coordinator to a worker.
#[derive(Debug, Default, PartialEq, Eq)]
struct Phases {
    /// Transactions that wrote rows and were prepared.
    prepared: usize,
    /// Statements that wrote rows and committed at once, or with their transaction in one phase.
    in_one_phase: Vec<String>,
}

/// Reads the statements that a client has sent. Citus sends transaction control as simple queries.
fn phases(sent: &[u8]) -> Phases {
    let mut found = Phases::default();
    let (mut in_transaction, mut wrote) = (false, None::<String>);
    for statement in sent.split(|byte| *byte == 0).map(String::from_utf8_lossy) {
        let at = |word: &str| statement.contains(word);
        if at("BEGIN TRANSACTION") {
            (in_transaction, wrote) = (true, None);
        }
        // Both COPY and the INSERT of a single row name the shard.
        let shard = ["COPY staging.product_events_raw_", "INSERT INTO staging.product_events_raw_"];
        if shard.iter().any(|word| at(word)) {
            if in_transaction {
                wrote.get_or_insert_with(|| statement.to_string());
            } else {
                found.in_one_phase.push(statement.to_string());
            }
        }
        if at("PREPARE TRANSACTION") {
            found.prepared += usize::from(wrote.take().is_some());
            in_transaction = false;
        } else if statement.ends_with("ROLLBACK") {
            (in_transaction, wrote) = (false, None);
        } else if statement.ends_with("COMMIT") {
            found.in_one_phase.extend(wrote.take());
            in_transaction = false;
        }
    }
    found
}

#[test]
fn the_phases_are_read_from_the_statements() {
    let sent = |statements: &[&str]| statements.join("\0Q123").into_bytes();
    let copy = "COPY staging.product_events_raw_102008 (event_id) FROM STDIN";
    let two = sent(&["BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED;", copy, "PREPARE TRANSACTION 'citus_0_1'"]);
    assert_eq!(phases(&two), Phases { prepared: 1, in_one_phase: Vec::new() });
    let one = sent(&["BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED;", copy, "COMMIT"]);
    assert_eq!(phases(&one).in_one_phase.len(), 1);
    let alone = sent(&["INSERT INTO staging.product_events_raw_102008 VALUES (1)"]);
    assert_eq!(phases(&alone).in_one_phase.len(), 1);
    let undone = sent(&["BEGIN TRANSACTION", copy, "ROLLBACK", "BEGIN TRANSACTION", "SELECT 1", "COMMIT"]);
    assert_eq!(phases(&undone), Phases::default());
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn each_batch_is_prepared_once_on_each_worker_and_nothing_commits_in_one_phase() {
    let cluster = cluster_or_return!("phases");
    for worker in &cluster.workers {
        worker.record();
    }
    publish(&cluster.stack, "phases", 50_000);
    let said = Member::of(&cluster.stack, &["--until-caught-up", "--batch-rows", "2000"]).ended_with(0);
    let transactions: usize =
        said.split("\"transactions\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    // Duplicates only, refused rows and a rebuild take other statements.
    Member::of(&cluster.stack, &["--until-caught-up", "--group-id", "again"]).ended_with(0);
    let mut prepared = 0;
    for (number, worker) in cluster.workers.iter().enumerate() {
        let found: Vec<Phases> = worker.recorded().iter().map(|sent| phases(sent)).collect();
        let of_worker: usize = found.iter().map(|one| one.prepared).sum();
        eprintln!("worker {number}: {of_worker} prepared for {transactions} transactions");
        assert!(found.iter().all(|one| one.in_one_phase.is_empty()), "{found:?}");
        assert!(of_worker > transactions / 2 && of_worker <= transactions, "{of_worker} of {transactions}");
        prepared += of_worker;
    }
    assert!(prepared > transactions);
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_rebuild_and_a_replay_commit_in_two_phases_too() {
    let cluster = cluster_or_return!("rebuilt");
    publish(&cluster.stack, "rebuilt", 30_000);
    succeed(program(&cluster.stack, OWNER, &["migrate"]));
    for worker in &cluster.workers {
        worker.record();
    }
    let mut rebuild =
        program(&cluster.stack, crate::support::WRITER, &["rebuild", "--lake", &cluster.stack.lake_url()]);
    rebuild.envs(cluster.stack.s3().variables());
    succeed(rebuild);
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    printed(&cluster.stack, &["dead-letters", "replay", "--dry-run"]);
    let found: Vec<Phases> =
        cluster.workers.iter().flat_map(local_stack::Proxy::recorded).map(|sent| phases(&sent)).collect();
    assert!(found.iter().map(|one| one.prepared).sum::<usize>() > 0);
    assert!(found.iter().all(|one| one.in_one_phase.is_empty()), "{found:?}");
    assert!(number(&cluster.stack, "SELECT count(*) FROM staging.product_events_raw") > 29_000);
}
