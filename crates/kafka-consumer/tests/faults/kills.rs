//! SIGKILL at each failpoint, and a consumer that is suspended in mid-transaction while another one takes over.

use std::time::{Duration, Instant};

use local_stack::Stack;

use crate::consumer_process::{Member, offsets, rows};
use crate::group::{assigned, share};
use crate::postgres::execute;
use crate::support::{self, WRITER, number};
use crate::test_topic::{Flow, caught_up, holds, publish};

const POINTS: [&str; 6] =
    ["after-partition", "after-cas", "during-copy", "after-copy", "before-commit", "after-commit"];

#[test]
fn killed_at_each_failpoint() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "points", 200_000);
    for point in POINTS {
        let before = rows(&stack);
        // A static membership ID, so that the restarted member need not wait for the dead one's session timeout.
        let arguments = ["--batch-rows", "3000", "--group-instance-id", "killed"];
        // A duplicate makes the first batch of a writer use a staged insert, with one COPY for each of its three
        // partitions. Each of the two writers may thus pass the failpoint four times before any row is committed.
        let member = Member::failing(&stack, &format!("{point}=kill@9"), &arguments);
        let said = member.was_killed();
        assert!(said.contains(&format!("failpoint {point}")), "{said}");
        assert!(rows(&stack) > before, "the batches before the kill are in: {said}");
    }
    Member::of(&stack, &["--until-caught-up", "--group-instance-id", "killed"]).ended_with(0);
    holds(&stack, "points");
}

#[test]
#[ignore = "fault"]
fn a_stopped_owner_is_taken_over_and_comes_back() {
    let stack = Stack::ephemeral().unwrap();
    for point in ["during-copy", "before-commit"] {
        publish(&stack, point, 100_000);
        let mut stopped = Member::failing(&stack, &format!("{point}=stop@3"), &["--batch-rows", "3000"]);
        stopped.until_stopped();
        let idle = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name LIKE 'kafka-consumer kafka-consumer %' AND xact_start IS NOT NULL";
        assert!(number(&stack, idle) > 0, "the transaction of the stopped one is open");

        let mut other = Member::of(&stack, &[]);
        other.until_said("session of a stopped consumer terminated");
        let held = offsets(&stack);
        other.until("the stopped one's partitions move", |_| {
            offsets(&stack).iter().zip(&held).any(|(now, then)| now.1 > then.1)
        });
        caught_up(&stack, &mut other, Duration::from_secs(30));
        stopped.signal("-CONT");
        stopped.until_said("offset moved by another consumer");
        publish(&stack, &format!("after-{point}"), 50_000);
        caught_up(&stack, &mut other, Duration::from_secs(30));
        stopped.stop();
        other.stop();
    }
    holds(&stack, "during-copy");
}

/// `ALTER ROLE … SET role` makes a role current that may not terminate the sessions of the login.
#[test]
fn a_login_with_another_current_role_takes_over_too() {
    let stack = Stack::ephemeral().unwrap();
    support::migrate(&stack);
    execute(&stack, &format!("ALTER ROLE {WRITER} SET role = pipeline_writer"));
    publish(&stack, "role", 50_000);
    let mut stopped = Member::failing(&stack, "during-copy=stop@3", &["--batch-rows", "3000"]);
    stopped.until_stopped();
    let mut other = Member::of(&stack, &[]);
    other.until_said("session of a stopped consumer terminated");
    caught_up(&stack, &mut other, Duration::from_secs(30));
    stopped.signal("-CONT");
    stopped.stop();
    other.stop();
    holds(&stack, "role");
}

#[test]
#[ignore = "fault"]
fn after_a_kill_the_first_row_is_there_within_ten_seconds() {
    let limit = Duration::from_secs(10);
    let stack = Stack::ephemeral().unwrap();
    let flow = Flow::start(&stack, "quick", 3_000, 45);
    let mut first = Member::of(&stack, &[]);
    first.until("rows", |_| rows(&stack) > 1_000);

    // Recovery after a restart of the consumer.
    first.signal("-KILL");
    first.was_killed();
    let (killed, before) = (Instant::now(), rows(&stack));
    let mut second = Member::of(&stack, &[]);
    second.within(limit, "a new row", |_| rows(&stack) > before);
    eprintln!("restarted: first row after {:?}", killed.elapsed());

    // Takeover by another member.
    let mut third = Member::of(&stack, &[]);
    share(&mut third, &mut second);
    second.signal("-KILL");
    let said = second.was_killed();
    let (killed, before) = (Instant::now(), offsets(&stack));
    third.within(limit, "a row of the dead one's partitions", |third| {
        let moved = offsets(&stack).iter().zip(&before).filter(|(now, then)| now.1 > then.1).count();
        assigned(third) == 6 && moved > 3
    });
    eprintln!("other member: first rows after {:?}: {said}", killed.elapsed());
    flow.settle(&stack, vec![third], Duration::from_secs(20));
}
