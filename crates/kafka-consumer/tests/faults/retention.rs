//! Records deleted by retention before they were read, and a topic that was deleted and recreated.

use std::time::Duration;

use local_stack::Stack;
use verifier::Terms;

use crate::consumer_process::{Member, offsets, rows};
use crate::group::assigned;
use crate::postgres::Lock;
use crate::support::{number, verify_with};
use crate::test_topic::{delete_before, delete_topic, ends, make_topic, publish, send};

fn refused(stack: &Stack, flag: &str, words: &str) {
    let before = offsets(stack);
    let said = Member::of(stack, &["--until-caught-up"]).ended_with(1);
    assert!(said.contains(flag) && said.contains(words), "{said}");
    assert_eq!(offsets(stack), before, "the offsets are untouched");
}

#[test]
fn retention_took_records_before_they_were_read() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "read", 20_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let read = rows(&stack);
    publish(&stack, "taken", 20_000);
    let low: Vec<(i32, i64)> =
        ends(&stack).iter().zip(offsets(&stack)).map(|(end, read)| (end.0, i64::midpoint(end.1, read.1))).collect();
    delete_before(&stack, &low);
    refused(&stack, "--allow-data-loss", "retention deleted");
    let said = Member::of(&stack, &["--until-caught-up", "--allow-data-loss"]).ended_with(0);
    assert!(said.contains("as allowed"), "{said}");
    assert_eq!(offsets(&stack), ends(&stack));
    assert!(rows(&stack) > read + 8_000 && rows(&stack) < read + 12_000, "{}", rows(&stack));
}

/// The consumer runs, but PostgreSQL blocks it until retention has deleted its next records.
#[test]
#[ignore = "fault"]
fn retention_overtakes_a_consumer_that_runs() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 6);
    let mut member = Member::of(&stack, &["--batch-rows", "1000"]);
    member.until("assigned", |member| assigned(member) == 6);
    let lock = Lock::take(&stack, "LOCK TABLE staging.product_events_raw IN SHARE MODE");
    publish(&stack, "overtaken", 200_000);
    member.until_said("reading paused");
    delete_before(&stack, &ends(&stack));
    lock.release();
    let (status, said) = member.ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("--allow-data-loss") && said.contains("retention deleted"), "{said}");
    Member::of(&stack, &["--until-caught-up", "--allow-data-loss"]).ended_with(0);
    assert_eq!(offsets(&stack), ends(&stack));
}

fn anew(stack: &Stack) {
    delete_topic(stack);
    make_topic(stack, 6);
}

#[test]
#[ignore = "fault"]
fn the_topic_is_made_anew_between_two_runs() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 20_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);

    anew(&stack);
    refused(&stack, "--allow-recreated-topic", "deleted and recreated");
    // More records than the former topic had, so only the records themselves reveal the change.
    publish(&stack, "latter", 60_000);
    assert!(ends(&stack).iter().zip(offsets(&stack)).all(|(end, read)| end.1 > read.1));
    refused(&stack, "--allow-recreated-topic", "deleted and recreated");
    Member::of(&stack, &["--until-caught-up", "--allow-recreated-topic"]).ended_with(0);
    let report = verify_with(&stack, "latter", &Terms::for_group("kafka-consumer").of_the_run_only());
    assert!(report.holds(), "{report}");
    let sql = "SELECT count(*) FROM pipeline.consumer_offsets WHERE topic_incarnation = 2";
    assert_eq!(number(&stack, sql), 6);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
}

#[test]
#[ignore = "fault"]
fn the_topic_is_made_anew_while_the_consumer_runs() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 20_000);
    let mut member = Member::of(&stack, &["-X", "topic.metadata.refresh.interval.ms=500"]);
    crate::test_topic::caught_up(&stack, &mut member, Duration::from_secs(20));
    anew(&stack);
    send(&stack, 0, ["another topic's".to_owned()]);
    let (status, said) = member.ended(Duration::from_mins(1));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("--allow-recreated-topic"), "{said}");
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters WHERE payload = 'another topic''s'"), 0);
}
