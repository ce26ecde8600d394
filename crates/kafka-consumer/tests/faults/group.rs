//! Rebalances of the group: members join and leave, partitions are added, the assignment strategy changes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use local_stack::proxy::ProxyMode;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places, offsets, rows};
use crate::poison::event;
use crate::support::number;
use crate::test_topic::{self, Flow, caught_up, ends, finish, holds, make_topic, publish};

/// Returns the number of partitions that a member has, according to its log.
pub(crate) fn assigned(member: &Member) -> usize {
    let said = member.said();
    let list = |line: &str| {
        let (_, rest) = line.split_once("\"partitions\":\"[")?;
        let (list, _) = rest.split_once(']')?;
        Some(list.split(", ").filter(|one| !one.is_empty()).map(length).sum::<usize>())
    };
    let mut count = 0;
    for line in said.lines() {
        if line.contains("\"partitions assigned\"") {
            count += list(line).unwrap();
        } else if line.contains("\"partitions revoked\"") || line.contains("partitions lost") {
            count -= list(line).unwrap();
        }
    }
    count
}

/// Returns the number of partitions of a range, such as `0-5` or `7`.
fn length(range: &str) -> usize {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
}

/// Waits until the two members share all six partitions.
pub(crate) fn share(one: &mut Member, other: &mut Member) {
    one.until("they share", |one| {
        let [mine, others] = [assigned(one), assigned(other)];
        mine > 0 && others > 0 && mine + others == 6
    });
}

#[test]
#[ignore = "fault"]
fn members_come_and_go_every_three_seconds() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 16);
    let flow = Flow::start(&stack, "restless", 6_000, 125);
    let began = Instant::now();
    let mut members: [Option<Member>; 3] = [None, None, None];
    let (mut joined, mut left) = (0, 0);
    for turn in 0..40 {
        match members[turn % 3].take() {
            // At least one member keeps running.
            Some(member) if members.iter().any(Option::is_some) => {
                member.stop();
                left += 1;
            }
            Some(member) => members[turn % 3] = Some(member),
            None => {
                members[turn % 3] = Some(Member::of(&stack, &[]));
                joined += 1;
            }
        }
        let next = began + Duration::from_secs(3) * u32::try_from(turn + 1).unwrap();
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let committed = number(&stack, "SELECT sum(records)::bigint FROM pipeline.consumer_offsets");
    eprintln!("{joined} joined, {left} left, {committed} records in {:?}", began.elapsed());
    assert!(joined >= 15 && left >= 12, "{joined} joined, {left} left");
    assert!(committed > 6_000 * 60, "less than half of the records are committed: {committed}");
    if members.iter().all(Option::is_none) {
        members[0] = Some(Member::of(&stack, &[]));
    }
    flow.settle(&stack, members.into_iter().flatten().collect(), Duration::from_secs(30));
}

#[test]
fn an_eager_strategy_and_both_read_to_the_end() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "eager", 300_000);
    let arguments =
        ["--until-caught-up", "-X", "partition.assignment.strategy=range", "--batch-rows", "1000", "--writers", "1"];
    let mut first = Member::of(&stack, &arguments);
    first.until("rows", |_| rows(&stack) > 0);
    let second = Member::of(&stack, &arguments);
    let said = first.ended_with(0);
    assert!(said.contains("partitions revoked"), "the second one was too late:\n{said}");
    second.ended_with(0);
    holds(&stack, "eager");
}

#[test]
#[ignore = "fault"]
fn a_member_that_has_nothing_yet_is_not_caught_up() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "empty-handed", 300_000);
    let slow = ["--batch-rows", "500", "--writers", "1"];
    let mut first = Member::of(&stack, &slow);
    first.until("rows", |_| rows(&stack) > 0);
    let said = Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let shares: Vec<&str> = said.lines().filter(|line| line.contains("\"partitions assigned\"")).collect();
    assert!(shares[0].contains("\"[]\""), "at first it had nothing: {said}");
    assert!(!shares[shares.len() - 1].contains("\"[]\""), "it ended before it had a share: {said}");
    first.stop();
    finish(&stack, "empty-handed");
}

/// This consumer has read its whole partition and handed it to its writer while the other one still commits. The writer
/// then finds that the offset has moved and drops the records.
#[test]
fn records_that_are_dropped_in_flight_are_not_caught_up() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 2);
    test_topic::send(&stack, 0, [event(1)]);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'kafka-consumer kafka-consumer%'
        AND wait_event_type = 'Lock'";
    let mut other = Member::of(&stack, &["--writers", "1"]);
    other.until("partitions", |other| assigned(other) == 2);
    // Opens its session before the table is locked.
    test_topic::send(&stack, 0, [event(1)]);
    other.until("a row", |_| rows(&stack) == 2);
    // It reads both partitions at once, so its transaction updates both offsets before it waits for the table.
    other.signal("-STOP");
    for partition in 0..2 {
        test_topic::send(&stack, partition, (1..=50).map(event));
    }
    let lock = crate::postgres::Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN EXCLUSIVE MODE");
    other.signal("-CONT");
    other.until("its writer waits", |_| number(&stack, waiting) == 1);
    let mut member = Member::of(&stack, &["--until-caught-up", "--writers", "1"]);
    other.until_said("partitions revoked");
    for partition in 0..2 {
        test_topic::send(&stack, partition, (1..=100).map(event));
    }
    member.until("it has a partition and waits for its offset", |member| {
        assigned(member) == 1 && number(&stack, waiting) == 2
    });
    // The log does not show that the member has read its partition to the end, hence a fixed delay. After three seconds
    // it would terminate the other consumer's session.
    sleep(Duration::from_millis(1_500));
    lock.release();
    let said = member.ended_with(0);
    let after = offsets(&stack);
    assert!(said.contains("offset moved by another consumer"), "{said}\n{}", other.said());
    other.signal("-KILL");
    other.was_killed();
    let mut lists = said.lines().filter(|line| line.contains("\"partitions assigned\"") && !line.contains("\"[]\""));
    let partition = usize::from(!lists.next_back().unwrap().contains("\"[0]\""));
    assert_eq!(after[partition], ends(&stack)[partition], "exit code 0 means committed to the end");
    finish_only(&stack);
}

fn finish_only(stack: &Stack) {
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!(offsets(stack), ends(stack));
}

/// With static membership, a killed member gets its partitions back at once when it restarts under the same ID.
#[test]
#[ignore = "fault"]
fn a_member_with_a_name_comes_back_without_a_rebalance() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "named", 100_000);
    let named = |name: &'static str| {
        Member::of(&stack, &["--group-instance-id", name, "-X", "session.timeout.ms=30000", "--batch-rows", "1000"])
    };
    let (mut one, mut other) = (named("one"), named("other"));
    share(&mut one, &mut other);
    caught_up(&stack, &mut one, Duration::from_secs(30));
    let before = other.said().matches("\"partitions ").count();
    one.signal("-KILL");
    one.was_killed();
    publish(&stack, "after", 20_000);
    let mut one = named("one");
    caught_up(&stack, &mut one, Duration::from_secs(10));
    assert_eq!(other.said().matches("\"partitions ").count(), before, "the other member keeps its partitions");
    one.stop();
    other.stop();
    holds(&stack, "after");
}

#[test]
#[ignore = "fault"]
fn of_two_under_one_name_the_first_ends() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "namesakes", 20_000);
    let named = || Member::of(&stack, &["--group-instance-id", "one"]);
    let mut first = named();
    first.until("rows", |_| rows(&stack) > 0);
    let mut second = named();
    let (status, said) = first.ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another consumer with this --group-instance-id"), "{said}");
    caught_up(&stack, &mut second, Duration::from_secs(30));
    second.stop();
    holds(&stack, "namesakes");
}

/// Starts a member that connects to Kafka through the proxy, and waits until it has read all records.
fn caught_up_behind(proxy: &Proxy, stack: &Stack, arguments: &[&str]) -> Member {
    let mut command = Places::of(stack).with_kafka_behind(proxy).consumer();
    command.args(arguments);
    let mut member = Member::start(command);
    caught_up(stack, &mut member, Duration::from_secs(30));
    member
}

/// The broker has issued a new member ID for the `group.instance.id`, and the response was lost. A second process that
/// ran briefly while the first one could not reach Kafka leaves this state.
#[test]
#[ignore = "fault"]
fn fenced_after_an_outage_and_nobody_else_has_its_name() {
    let proxy = Proxy::listen().unwrap();
    let stack = Stack::ephemeral_behind(&proxy).unwrap();
    publish(&stack, "before", 20_000);
    let named = ["--group-instance-id", "one", "-X", "session.timeout.ms=45000"];
    let mut member = caught_up_behind(&proxy, &stack, &named);
    proxy.set(ProxyMode::Closed);
    proxy.cut();
    let mut other = Member::of(&stack, &named);
    other.until("partitions", |other| assigned(other) == 6);
    other.signal("-KILL");
    other.was_killed();
    publish(&stack, "after", 20_000);
    proxy.set(ProxyMode::Open);
    member.until("the group", |member| member.times_said("fenced static member rejoined the group") == 1);
    caught_up(&stack, &mut member, Duration::from_mins(1));
    member.stop();
    holds(&stack, "after");
}

/// librdkafka does not even report an error when a connection in use is cut.
#[test]
#[ignore = "fault"]
fn fenced_after_a_cut_it_joins_again_and_its_namesake_ends() {
    let proxy = Proxy::listen().unwrap();
    let stack = Stack::ephemeral_behind(&proxy).unwrap();
    publish(&stack, "before", 20_000);
    let named = ["--group-instance-id", "one", "-q"];
    let mut member = caught_up_behind(&proxy, &stack, &named);
    proxy.cut();
    let (status, said) = Member::of(&stack, &named).ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another consumer with this --group-instance-id"), "{said}");
    assert_eq!(member.times_said("fenced static member rejoined the group"), 1);
    publish(&stack, "after", 20_000);
    caught_up(&stack, &mut member, Duration::from_mins(1));
    member.stop();
    holds(&stack, "after");
}

#[test]
#[ignore = "fault"]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "six", 20_000);
    let mut member = Member::of(&stack, &["-X", "topic.metadata.refresh.interval.ms=4000", "--start", "latest"]);
    member.until("assigned", |member| assigned(member) == 6);
    test_topic::add_partitions(&stack, 8);
    // Sent before the consumer discovers the new partitions.
    for partition in [6, 7] {
        test_topic::send(&stack, partition, (1..=50).map(event));
    }
    assert_eq!(assigned(&member), 6);
    caught_up(&stack, &mut member, Duration::from_secs(30));
    let said = member.stop();
    assert!(said.contains("\"partitions\":\"[6-7]\""), "{said}");
    let new = "SELECT sum(rows_inserted)::bigint FROM pipeline.consumer_offsets WHERE partition >= 6";
    assert_eq!(number(&stack, new), 100);
}

/// A partition that is assigned while reading is paused must not be read into memory.
#[test]
#[ignore = "fault"]
fn assigned_while_reading_is_paused() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "paused", 20_000);
    let mut member = Member::of(&stack, &[]);
    let mut other = Member::of(&stack, &[]);
    share(&mut member, &mut other);
    caught_up(&stack, &mut member, Duration::from_secs(30));

    let lock = crate::postgres::Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN SHARE MODE");
    publish(&stack, "more", 600_000);
    member.until_said("reading paused");
    other.signal("-KILL");
    other.was_killed();
    member.until("all partitions", |member| assigned(member) == 6);
    let before = member.peak_memory();
    sleep(Duration::from_secs(10));
    let grown = member.peak_memory() - before;
    lock.release();
    caught_up(&stack, &mut member, Duration::from_mins(1));
    member.stop();
    assert!(grown < 40, "memory grew by {grown} MB");
    holds(&stack, "more");
}

#[test]
fn the_marks_of_transactions_at_the_end_of_a_partition() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "marked", 20_000);
    test_topic::transaction(&stack, 500, false);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    holds(&stack, "marked");
    test_topic::transaction(&stack, 500, true);
    test_topic::transaction(&stack, 500, false);
    finish(&stack, "marked");
    assert_eq!(
        number(&stack, "SELECT sum(dead_letters)::bigint FROM pipeline.consumer_offsets WHERE partition = 0"),
        { number(&stack, "SELECT count(*) FROM pipeline.dead_letters WHERE partition = 0") }
    );
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters WHERE payload = 'committed'"), 500);
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters WHERE payload = 'aborted'"), 0);
}
