//! Panics, hanging shutdowns, and shutdowns during a rebalance.

use std::thread::sleep;
use std::time::{Duration, Instant};

use local_stack::proxy::ProxyMode;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places};
use crate::group::{assigned, share};
use crate::test_topic::{caught_up, publish};

/// Maximum time from a signal to the exit of the process.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Covers the reading thread, which runs the Kafka client's callbacks, and a task of the runtime.
#[test]
fn a_panic_in_any_thread_ends_the_process() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "panics", 2_000);
    for place in ["reading", "after-copy", "after-commit"] {
        let member = Member::failing(&stack, &format!("{place}=panic"), &[]);
        let (status, said) = member.ended(Duration::from_secs(20));
        assert_eq!(status.code(), Some(1), "{place}: {said}");
        assert!(said.contains("panicked at") && said.contains(&format!("failpoint {place}")), "{place}: {said}");
        assert!(said.contains("error: this is a bug"), "{place}: {said}");
    }
}

/// The deadline ends a hanging process, and so does a second signal.
#[test]
fn a_shutdown_that_hangs_is_ended() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "hangs", 2_000);
    for (place, waited_for) in [("reading", "the reading thread"), ("before-commit", "PostgreSQL, to commit")] {
        let mut member = Member::failing(&stack, &format!("{place}=hang"), &[]);
        member.until_said(&format!("failpoint {place}"));
        let signalled = Instant::now();
        member.signal("-TERM");
        let (status, said) = member.ended(Duration::from_secs(11));
        assert!(signalled.elapsed() < Duration::from_millis(10_500), "{:?}", signalled.elapsed());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("shutdown deadline exceeded") && said.contains(waited_for), "{said}");
    }
    let mut member = Member::failing(&stack, "reading=hang", &[]);
    member.until_said("failpoint reading");
    member.signal("-TERM");
    member.until_said("a second signal ends the process at once");
    member.signal("-TERM");
    let (status, said) = member.ended(Duration::from_secs(2));
    assert_eq!(status.code(), Some(143), "{said}");
}

/// The group waits for the member to accept its first, empty assignment, while the member waits for PostgreSQL to
/// return the offsets.
#[test]
fn an_assignment_under_way_does_not_hold_up_the_end() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "under-way", 2_000);
    let mut first = Member::of(&stack, &[]);
    caught_up(&stack, &mut first, Duration::from_secs(30));
    let postgres = Proxy::to(stack.postgres.port()).unwrap();
    let mut command = Places::of(&stack).with_postgres_behind(&stack, &postgres).consumer();
    command.arg("-v");
    let mut second = Member::start(command);
    second.until_said("\"message\":\"consuming\"");
    postgres.set(ProxyMode::HalfOpen);
    second.until_said("Assign([])");
    second.signal("-TERM");
    let (status, said) = second.ended(TEN_SECONDS);
    assert!(!said.contains("\"partitions assigned\""), "PostgreSQL answered: {said}");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("group not left"), "{said}");
    first.stop();
}

/// The member rejoins the group just as it is told to stop.
#[test]
#[ignore = "fault"]
fn told_to_end_right_after_it_stood_still() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "stood-still", 2_000);
    for delay in [0, 30, 60, 100, 150, 200, 300, 500, 800, 1_500].map(Duration::from_millis) {
        let mut member = Member::of(&stack, &[]);
        member.until("all partitions", |member| assigned(member) == 6);
        let mut other = Member::of(&stack, &[]);
        share(&mut member, &mut other);
        member.signal("-STOP");
        other.until("all partitions", |other| assigned(other) == 6);
        member.signal("-CONT");
        sleep(delay);
        member.signal("-TERM");
        let (status, said) = member.ended(TEN_SECONDS);
        assert_eq!(status.code(), Some(0), "{delay:?}: {said}");
        other.stop();
    }
}
