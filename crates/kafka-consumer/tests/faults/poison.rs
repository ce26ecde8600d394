//! Rows 26 and 27: invalid events in the middle of a batch, and a whole flood of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::{Reason, Timestamp};
use local_stack::proxy::CutAt;
use local_stack::{Proxy, Stack};

use crate::member::{Member, Places, offsets};
use crate::postgres::Lock;
use crate::support::{number, query};
use crate::topic::{ends, make_topic, send};

const LETTERS: &str = "SELECT count(*) FROM pipeline.dead_letters";

/// A valid event of a foreign producer.
pub(crate) fn event(user: u32) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let time = Timestamp::from_micros(i64::try_from(micros).unwrap());
    format!(
        r#"{{"event_id":"9f3c0b1e-3c5a-4d9b-8e0f-{number:012x}","event_timestamp":"{time}","event_type":"rfq_sent","user_id":{user},"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}}"#
    )
}

/// A text that is invalid for this reason; none for the two that are no texts.
fn broken(reason: Reason) -> Option<String> {
    let change = |from: &str, to: &str| Some(event(7).replace(from, to));
    match reason {
        Reason::NotUtf8 | Reason::EmptyValue => None,
        Reason::ValueTooLarge => change("tools", &"x".repeat(70_000)),
        Reason::NotJson => Some("{\"event_id\":".to_owned()),
        Reason::NotAnObject => Some("[1, 2]".to_owned()),
        Reason::DuplicateKey => change("{\"event_id", "{\"user_id\":1,\"event_id"),
        Reason::MissingField => change(",\"category\":\"tools\"", ""),
        Reason::NullField => change("\"account_id\":2", "\"account_id\":null"),
        Reason::WrongType => change("\"account_id\":2", "\"account_id\":2.0"),
        Reason::OutOfRange => change("\"account_id\":2", "\"account_id\":0"),
        Reason::BadUuid => change("9f3c0b1e-", "9f3c0b1e"),
        Reason::BadTimestamp => change("\"event_timestamp\":\"2", "\"event_timestamp\":\"x"),
        Reason::TimestampOutsideWindow => change("\"event_timestamp\":\"20", "\"event_timestamp\":\"19"),
        Reason::UnknownEventType => change("rfq_sent", "slept"),
        Reason::TextEmpty => change("\"tools\"", "\"\""),
        Reason::TextTooLong => change("tools", &"y".repeat(65)),
        Reason::TextControlCharacters => change("tools", "\\u0001"),
    }
}

#[test]
fn each_invalid_form_in_the_middle_of_a_batch() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    let reasons: Vec<Reason> = Reason::ALL.iter().copied().filter(|reason| broken(*reason).is_some()).collect();
    let good = |count: u32| (1..=count).map(event);
    let mut values: Vec<String> = good(100).collect();
    for reason in &reasons {
        values.push(broken(*reason).unwrap());
        values.extend(good(3));
    }
    values.extend(good(100));
    send(&stack, 0, values.clone());
    Member::of(&stack, &["--until-caught-up", "--batch-rows", "1000"]).ended_with(0);
    let transactions = "SELECT count(DISTINCT xmin::text) FROM pipeline.dead_letters";
    assert_eq!(number(&stack, transactions), 1, "they were in one batch");
    let letters = query(
        &stack,
        "SELECT reason_code, convert_from(payload, 'UTF8') FROM pipeline.dead_letters ORDER BY \"offset\"",
    );
    let letters: Vec<(String, String)> = letters.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected: Vec<(String, String)> = reasons
        .iter()
        .zip(values.iter().skip(100).step_by(4))
        .map(|(reason, text)| (reason.to_string(), text.clone()))
        .collect();
    assert_eq!(letters, expected);
    let rows = number(&stack, "SELECT count(*) FROM staging.product_events_raw");
    assert_eq!(rows, i64::try_from(values.len() - reasons.len()).unwrap());
    assert_eq!(offsets(&stack), ends(&stack));
}

/// 100 good ones, 1,600 bad ones, 100 good ones: 600 more than are borne.
fn flood(stack: &Stack) {
    make_topic(stack, 1);
    let good = (1..=100).map(event);
    send(stack, 0, good.clone().chain((0..1_600).map(|number| format!("{{{number}"))).chain(good));
}

#[test]
fn a_flood_stops_the_consumer_until_a_person_lets_it_pass() {
    let stack = Stack::ephemeral().unwrap();
    flood(&stack);
    let run = |more: &[&str]| {
        let arguments = [&["--until-caught-up", "--batch-rows", "500", "--batch-interval", "10s"], more].concat();
        Member::of(&stack, &arguments)
    };
    let said = run(&[]).ended_with(1);
    assert!(
        said.contains("error: more than 1000 of the last 10000 records") && said.contains("--accept-dead-letters"),
        "{said}"
    );
    let (letters, stands) = (number(&stack, LETTERS), offsets(&stack));
    assert!((900..=1_000).contains(&letters), "{letters}");
    let said = run(&[]).ended_with(1);
    assert!(said.contains("offsets are untouched"), "{said}");
    assert!(number(&stack, LETTERS) <= 1_000, "no new allowance");
    run(&["--accept-dead-letters", "599"]).ended_with(1);
    assert!((1_000..1_600).contains(&number(&stack, LETTERS)), "{stands:?}");
    let missing = 1_600 - number(&stack, LETTERS).max(1_000);
    run(&["--accept-dead-letters", &missing.to_string()]).ended_with(0);
    assert_eq!(number(&stack, LETTERS), 1_600);
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), 200);
    assert_eq!(offsets(&stack), ends(&stack));
}

/// A batch that has to be tried again takes its share of what is let pass only once.
#[test]
fn what_is_let_pass_is_not_spent_twice() {
    let stack = Stack::ephemeral().unwrap();
    flood(&stack);
    Member::of(&stack, &["--until-caught-up", "--dead-letter-limit", "0"]).ended_with(1);
    assert_eq!(number(&stack, LETTERS), 0);
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let mut command = Places::of(&stack).with_postgres_behind(&stack, &proxy).consumer();
    command.args([
        "--until-caught-up",
        "--accept-dead-letters",
        "600",
        "--batch-interval",
        "3s",
        "--batch-rows",
        "10000",
    ]);
    let lock = Lock::take(&stack, "SELECT FROM pipeline.consumer_offsets FOR UPDATE");
    let mut member = Member::start(command);
    // Not the start's own transactions.
    member.until_said("offset locked by a session that is not ours");
    proxy.cut_at(b"COMMIT\0", CutAt::Request);
    lock.release();
    let (status, said) = member.ended(Duration::from_secs(30));
    assert_eq!(proxy.seen().triggered, 1, "{said}");
    assert!(status.success(), "{said}");
    assert_eq!(number(&stack, LETTERS), 1_600);
}
