//! The backlog of many partitions is read in turns, and stays complete through outages and rebalances.

use std::time::Duration;

use local_stack::Stack;

use crate::consumer_process::{Member, rows};
use crate::group::assigned;
use crate::postgres::Lock;
use crate::test_topic::{caught_up, holds, make_topic, publish};

const RUN: &str = "in-turns";

fn backlog(partitions: i32, records: u32) -> Stack {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, partitions);
    publish(&stack, RUN, records);
    stack
}

#[test]
fn a_backlog_is_read_in_turns() {
    let stack = backlog(300, 200_000);
    let said = Member::of(&stack, &["--until-caught-up", "-v"]).ended_with(0);
    assert!(said.contains("turns begin") && said.contains("turns end"), "{said}");
    holds(&stack, RUN);
}

/// Reading is paused during the first round. Then a second member takes half of the partitions, some of which wait for
/// their turn, and the first one is killed.
#[test]
#[ignore = "fault"]
fn an_outage_and_two_rebalances_during_the_turns() {
    let stack = backlog(600, 1_000_000);
    let slow = ["-v", "--writers", "1", "--batch-rows", "2000"];
    let mut first = Member::of(&stack, &slow);
    first.until_said("turns begin");
    first.until("rows", |_| rows(&stack) > 0);
    let lock = Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN SHARE MODE");
    first.until_said("reading paused");
    lock.release();
    first.until_said("reading resumed");
    assert!(first.times_said("turns begin") > first.times_said("turns end"), "the first round: {}", first.said());
    let mut second = Member::of(&stack, &slow);
    second.until("partitions", |second| assigned(second) == 300);
    first.signal("-KILL");
    first.was_killed();
    second.until("all partitions", |second| assigned(second) == 600);
    caught_up(&stack, &mut second, Duration::from_mins(1));
    second.stop();
    holds(&stack, RUN);
}
