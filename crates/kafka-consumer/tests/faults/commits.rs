//! The connection is cut between COMMIT and its response.

use std::time::Duration;

use local_stack::proxy::CutAt;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places, TIMEOUT, rows};
use crate::support::{execute, query};
use crate::test_topic::{caught_up, holds, publish};

#[test]
fn the_answer_to_a_commit_is_lost() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "unanswered", 300_000);
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let mut command = Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer();
    command.args(["--batch-rows", "2000"]);
    let mut member = Member::start(command);
    member.until("rows", |_| rows(&stack) > 0);
    for round in 1..=10 {
        let at = if round % 2 == 0 { CutAt::Answer } else { CutAt::Request };
        proxy.cut_at(b"COMMIT\0", at);
        member.until("a commit is cut", |_| proxy.seen().triggered == round);
    }
    caught_up(&stack, &mut member, Duration::from_secs(30));
    let said = member.stop();
    assert!(said.matches("postgres retry").count() >= 10, "{said}");
    assert!(!said.contains("offset moved by another consumer"), "{said}");
    holds(&stack, "unanswered");
}

/// The COMMIT does not reach PostgreSQL. Before the consumer returns, another one has committed exactly the records that
/// the batch has of the first partition. The other partitions have to be written again.
#[test]
fn each_partition_of_an_unanswered_commit_is_settled_by_itself() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "in-doubt", 100);
    // Another group stores the ends of all partitions, which the test copies for one of them.
    Member::of(&stack, &["--group-id", "other", "--until-caught-up"]).ended_with(0);
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let mut command = Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer();
    command.args(["--group-id", "in-doubt", "--until-caught-up", "--writers", "1"]);
    command.env("FAILPOINTS", "before-commit=stop");
    let mut member = Member::start(command);
    member.until_stopped();
    proxy.cut_at(b"COMMIT\0", CutAt::Request);
    proxy.pass_to(UNUSED_PORT);
    member.signal("-CONT");
    member.until("the commit is cut", |_| proxy.seen().triggered == 1);
    execute(&stack, COPY_FIRST_PARTITION);
    proxy.pass_to(stack.postgres.port());
    let (status, said) = member.ended(TIMEOUT);
    assert!(status.success(), "{said}");
    assert!(!said.contains("offset moved by another consumer"), "{said}");
    let [own, other] = ["in-doubt", "other"].map(|group| offsets_of(&stack, group));
    assert_eq!(own, other, "{said}");
}

/// A port that nothing listens on.
const UNUSED_PORT: u16 = 1;

const COPY_FIRST_PARTITION: &str = "UPDATE pipeline.consumer_offsets AS own
    SET next_offset = other.next_offset, fingerprint_offset = other.fingerprint_offset, fingerprint = other.fingerprint,
        records = other.records, rows_inserted = other.rows_inserted, duplicates = other.duplicates,
        duplicates_differing = other.duplicates_differing, dead_letters = other.dead_letters
    FROM pipeline.consumer_offsets AS other
    WHERE own.consumer_group = 'in-doubt' AND own.partition = 0
      AND other.consumer_group = 'other' AND other.topic = own.topic AND other.partition = own.partition";

fn offsets_of(stack: &Stack, group: &str) -> Vec<(i32, i64)> {
    let sql = format!(
        "SELECT partition, next_offset FROM pipeline.consumer_offsets WHERE consumer_group = '{group}' ORDER BY partition"
    );
    query(stack, &sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}
