//! Network faults: the consumer's connections to Kafka and PostgreSQL are cut, half open, throttled and delayed.

use std::thread::sleep;
use std::time::Duration;

use local_stack::proxy::ProxyMode;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places, rows};
use crate::group::{assigned, share};
use crate::poison::event;
use crate::postgres::execute;
use crate::support::number;
use crate::test_topic::{Flow, caught_up, holds, make_topic, publish, send};

/// Duration of each fault.
const FAULT: Duration = Duration::from_secs(12);
/// Deadline for new rows after a fault; a client may wait this long for a response that was lost.
const RECOVERY: Duration = Duration::from_secs(100);

fn suffer(proxy: &Proxy, stack: &Stack, member: &mut Member) {
    let ways = [
        ProxyMode::Closed,
        ProxyMode::Throttled(1_000),
        ProxyMode::Delayed(Duration::from_secs(2)),
        ProxyMode::HalfOpen,
    ];
    for way in ways {
        let before = proxy.seen();
        proxy.set(way);
        if way == ProxyMode::Closed {
            proxy.cut();
        }
        sleep(FAULT);
        let after = proxy.seen();
        match way {
            ProxyMode::Closed => {
                assert!(after.cut > before.cut && after.accepted > before.accepted, "it tried to come back: {after:?}");
            }
            ProxyMode::HalfOpen => assert!(after.swallowed > before.swallowed, "{after:?}"),
            _ => assert!(after.passed > before.passed, "{after:?}"),
        }
        proxy.set(ProxyMode::Open);
        let seen = rows(stack);
        let healed = std::time::Instant::now();
        member.within(RECOVERY, "rows after the fault", |_| rows(stack) > seen);
        eprintln!("{way:?}: rows again after {:?}", healed.elapsed());
    }
    assert!(member.peak_memory() < 300, "{} MB", member.peak_memory());
}

#[test]
#[ignore = "fault"]
fn the_connection_to_postgres() {
    let stack = Stack::ephemeral().unwrap();
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let flow = Flow::start(&stack, "postgres-network", 2_000, 120);
    let mut member = Member::start(Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer());
    member.until("rows", |_| rows(&stack) > 1_000);
    suffer(&proxy, &stack, &mut member);
    assert!(member.times_said("postgres retry") >= 2, "{}", member.said());
    flow.settle(&stack, vec![member], RECOVERY);
}

#[test]
#[ignore = "fault"]
fn the_connection_to_kafka() {
    let proxy = Proxy::listen().unwrap();
    let stack = Stack::ephemeral_behind(&proxy).unwrap();
    let flow = Flow::start(&stack, "kafka-network", 2_000, 120);
    let mut member = Member::start(Places::of(&stack).with_kafka_behind(&proxy).consumer());
    member.until("rows", |_| rows(&stack) > 1_000);
    suffer(&proxy, &stack, &mut member);
    flow.settle(&stack, vec![member], RECOVERY);
}

/// An assignment while a connection swallows all bytes must not block forever.
#[test]
#[ignore = "fault"]
fn assigned_while_nothing_answers() {
    for of_kafka in [true, false] {
        let kafka = Proxy::listen().unwrap();
        let stack = Stack::ephemeral_behind(&kafka).unwrap();
        let postgres = Proxy::to(stack.postgres.port()).unwrap();
        let places = Places::of(&stack).with_kafka_behind(&kafka).with_postgres_behind(&stack, &postgres);
        let flow = Flow::start(&stack, "assigned", 2_000, 60);
        let mut other = Member::of(&stack, &[]);
        other.until("rows", |_| rows(&stack) > 1_000);
        let mut member = Member::start(places.consumer());
        share(&mut member, &mut other);
        let proxy = if of_kafka { &kafka } else { &postgres };
        let before = proxy.seen().swallowed;
        proxy.set(ProxyMode::HalfOpen);
        other.signal("-KILL");
        other.was_killed();
        sleep(FAULT);
        assert!(proxy.seen().swallowed > before);
        proxy.set(ProxyMode::Open);
        flow.settle(&stack, vec![member], RECOVERY);
    }
}

#[test]
#[ignore = "fault"]
fn the_broker_is_killed_and_comes_back() {
    let mut stack = Stack::ephemeral().unwrap();
    publish(&stack, "broker", 400_000);
    let mut member = Member::of(&stack, &["--batch-rows", "1000", "--writers", "1"]);
    for _ in 0..3 {
        let before = rows(&stack);
        member.until("rows", |_| rows(&stack) > before);
        stack.kafka.kill().unwrap();
        member.until_said("kafka unavailable");
        stack.kafka.restart().unwrap();
    }
    caught_up(&stack, &mut member, RECOVERY);
    // The member also stops in order and in time while Kafka is unavailable.
    stack.kafka.kill().unwrap();
    member.stop();
    stack.kafka.restart().unwrap();
    holds(&stack, "broker");
}

/// A shutdown must not wait for requests to an unavailable broker, here those for the start offsets of a dead member's
/// partitions.
#[test]
#[ignore = "fault"]
fn ends_in_time_while_it_asks_a_broker_that_is_away() {
    let kafka = Proxy::listen().unwrap();
    let stack = Stack::ephemeral_behind(&kafka).unwrap();
    let postgres = Proxy::to(stack.postgres.port()).unwrap();
    publish(&stack, "ending", 20_000);
    let mut command = Places::of(&stack).with_kafka_behind(&kafka).with_postgres_behind(&stack, &postgres).consumer();
    command.arg("-v");
    let mut member = Member::start(command);
    let mut other = Member::of(&stack, &[]);
    share(&mut member, &mut other);
    caught_up(&stack, &mut member, RECOVERY);

    let given = |member: &Member| member.times_said("\"Assign([") - member.times_said("\"Assign([])");
    let before = given(&member);
    // PostgreSQL is queried first. Its delay leaves time to make Kafka unavailable before it is queried.
    postgres.set(ProxyMode::Delayed(Duration::from_secs(1)));
    other.signal("-KILL");
    other.was_killed();
    member.until("has the dead one's partitions", |member| given(member) > before);
    kafka.set(ProxyMode::HalfOpen);
    postgres.set(ProxyMode::Open);
    // The consumer queries Kafka for ten seconds from about now.
    sleep(Duration::from_secs(3));
    assert!(kafka.seen().swallowed > 0);
    assert_eq!(assigned(&member), 3, "the others wait for Kafka's answer");
    member.signal("-TERM");
    let (status, said) = member.ended(Duration::from_secs(5));
    assert!(status.success(), "{status}: {said}");
}

/// The proxy acknowledges every byte of a half-open connection, so only the missing response reveals the fault.
///
/// The search for rejected rows may take minutes over many responses, but a single response may not.
#[test]
#[ignore = "fault"]
fn the_connection_to_postgres_falls_silent_during_a_search_for_refused_rows() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    execute(
        &stack,
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_sleep(0.02);
             IF NEW.user_id = 1 THEN RAISE EXCEPTION 'refused by a test' USING ERRCODE = 'P0001'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON staging.product_events_raw FOR EACH ROW EXECUTE FUNCTION public.slow()",
    );
    send(&stack, 0, (1..=1_000).map(|number| event(if number % 500 == 499 { 1 } else { number + 1 })));
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let mut member = Member::start(Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer());
    let searching = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (query LIKE '%SAVEPOINT%' OR query LIKE 'COPY%') AND xact_start < now() - interval '3 seconds'";
    member.until("searches for the refused rows", |_| number(&stack, searching) > 0);
    proxy.set(ProxyMode::HalfOpen);
    sleep(FAULT);
    assert!(proxy.seen().swallowed > 0);
    proxy.set(ProxyMode::Open);
    member.within(Duration::from_mins(3), "rows after the fault", |_| rows(&stack) == 998);
    assert!(member.said().contains("no answer"), "{}", member.said());
    member.stop();
}
