//! Invalid events in the middle of a batch, and a flood of invalid events.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::{Reason, Timestamp};
use local_stack::proxy::CutAt;
use local_stack::{Proxy, Stack};

use crate::consumer_process::{Member, Places, offsets};
use crate::postgres::Lock;
use crate::support::{number, query};
use crate::test_topic::{ends, make_topic, send};

const LETTERS: &str = "SELECT count(*) FROM pipeline.dead_letters";

/// Returns the number of dead letters that satisfy a condition.
pub(crate) fn number_of(stack: &Stack, condition: &str) -> i64 {
    number(stack, &format!("{LETTERS} WHERE {condition}"))
}

/// Returns a valid event of a foreign producer.
pub(crate) fn event(user: u32) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let time = Timestamp::from_micros(i64::try_from(micros).unwrap());
    format!(
        r#"{{"event_id":"9f3c0b1e-3c5a-4d9b-8e0f-{number:012x}","event_timestamp":"{time}","event_type":"rfq_sent","user_id":{user},"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}}"#
    )
}

/// Returns a value that is invalid for this reason, or `None` for the two reasons without a text.
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

/// Sends 100 valid, 1,600 invalid and 100 valid events: 600 more than the dead-letter limit.
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
        said.contains("dead-letter limit exceeded: more than 1000 of the last 10000")
            && said.contains("--allow-dead-letters"),
        "{said}"
    );
    let (letters, stands) = (number(&stack, LETTERS), offsets(&stack));
    assert!((900..=1_000).contains(&letters), "{letters}");
    let said = run(&[]).ended_with(1);
    assert!(said.contains("rolled back"), "{said}");
    assert!(number(&stack, LETTERS) <= 1_000, "no new allowance");
    run(&["--allow-dead-letters", "599"]).ended_with(1);
    assert!((1_000..1_600).contains(&number(&stack, LETTERS)), "{stands:?}");
    let missing = 1_600 - number(&stack, LETTERS).max(1_000);
    run(&["--allow-dead-letters", &missing.to_string()]).ended_with(0);
    assert_eq!(number(&stack, LETTERS), 1_600);
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), 200);
    assert_eq!(offsets(&stack), ends(&stack));
}

/// A retried batch counts against the allowed dead letters only once.
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
        "--allow-dead-letters",
        "600",
        "--batch-interval",
        "3s",
        "--batch-rows",
        "10000",
    ]);
    let lock = Lock::take(&stack, "SELECT FROM pipeline.consumer_offsets FOR UPDATE");
    let mut member = Member::start(command);
    // Waits until the start's own transactions have committed, so that none of them is cut.
    member.until_said("waiting for an offset locked by another program's session");
    proxy.cut_at(b"COMMIT\0", CutAt::Request);
    lock.release();
    let (status, said) = member.ended(Duration::from_secs(30));
    assert_eq!(proxy.seen().triggered, 1, "{said}");
    assert!(status.success(), "{said}");
    assert_eq!(number(&stack, LETTERS), 1_600);
}

/// Adds a CHECK constraint of the owner to the table.
fn refuse(stack: &Stack, condition: &str) {
    let sql = format!("ALTER TABLE staging.product_events_raw ADD CONSTRAINT owners CHECK ({condition}) NOT VALID");
    crate::postgres::execute(stack, &sql);
}

/// Reads 20,000 records of two partitions in one batch, some of them rejected. Returns the elapsed time.
fn refused_in_bulk(stack: &Stack, places: &Places, count: i64, accepted: &str, limit: Duration) -> Duration {
    let mut command = places.consumer();
    command.args(["--until-caught-up", "--allow-dead-letters", accepted, "--writers", "1"]);
    command.args(["--batch-rows", "30000", "--batch-interval", "10s"]);
    let began = std::time::Instant::now();
    let mut member = Member::start(command);
    let mut peak = 0;
    member.within(limit, "all of it", |member| {
        peak = peak.max(member.peak_memory());
        offsets(stack) == ends(stack)
    });
    let took = began.elapsed();
    let (status, said) = member.ended(Duration::from_secs(20));
    assert!(status.success(), "{said}");
    assert!(peak < 256, "{peak} MB");
    assert_eq!(number_of(stack, "sqlstate = '23514' AND reason LIKE '%\"owners\"%'"), count);
    let rows = number(stack, "SELECT count(*) FROM staging.product_events_raw");
    assert_eq!(rows, 20_000 - count);
    // Each dead letter contains the record that it names.
    let wrong = "convert_from(payload, 'UTF8')::json ->> 'product_id' IS DISTINCT FROM '666'";
    assert_eq!(number_of(stack, wrong), 0);
    assert_eq!(
        number(stack, "SELECT sum(records - rows_inserted - dead_letters)::bigint FROM pipeline.consumer_offsets"),
        0
    );
    assert_eq!(number(stack, "SELECT sum(dead_letters)::bigint FROM pipeline.consumer_offsets"), count);
    took
}

/// Sends 20,000 valid events. Every nth one is of product 666, which the table rejects.
fn send_refused(stack: &Stack, every: u32) {
    make_topic(stack, 2);
    Places::of(stack);
    refuse(stack, "product_id <> 666");
    for partition in [0, 1] {
        send(
            stack,
            partition,
            (1..=10_000).map(|user| {
                let event = event(user);
                if user % every == 0 { event.replace("\"product_id\":3", "\"product_id\":666") } else { event }
            }),
        );
    }
}

#[test]
fn two_thousand_refused_rows_of_a_batch() {
    let stack = Stack::ephemeral().unwrap();
    send_refused(&stack, 10);
    let places = Places::of(&stack);
    let took = refused_in_bulk(&stack, &places, 2_000, "2000", Duration::from_mins(1));
    eprintln!("2,000 refused of 20,000: {took:?}");
}

#[test]
#[ignore = "fault"]
fn a_table_that_refuses_everything() {
    let stack = Stack::ephemeral().unwrap();
    send_refused(&stack, 1);
    // The rejected rows exceed the dead-letter limit unless they are allowed.
    let arguments = ["--until-caught-up", "--batch-rows", "30000", "--batch-interval", "10s"];
    let said = Member::of(&stack, &arguments).ended_with(1);
    assert!(said.contains("--allow-dead-letters"), "{said}");
    assert!(number(&stack, LETTERS) <= 1_000);
    let took = refused_in_bulk(&stack, &Places::of(&stack), 20_000, "20000", Duration::from_mins(3));
    eprintln!("20,000 refused of 20,000: {took:?}");
}

/// The proxy adds 40 ms to each round trip to Kafka.
#[test]
#[ignore = "fault"]
fn two_thousand_refused_rows_over_a_slow_link() {
    let proxy = Proxy::listen().unwrap();
    let stack = Stack::ephemeral_behind(&proxy).unwrap();
    send_refused(&stack, 10);
    proxy.set(local_stack::proxy::ProxyMode::Delayed(Duration::from_millis(20)));
    let places = Places::of(&stack).with_kafka_behind(&proxy);
    let took = refused_in_bulk(&stack, &places, 2_000, "2000", Duration::from_mins(3));
    eprintln!("2,000 refused of 20,000, 40 ms to Kafka: {took:?}");
}

/// A second consumer of the group takes over between the transactions of one batch; each record is processed once.
#[test]
#[ignore = "fault"]
fn a_consumer_that_is_killed_between_parts_of_a_batch() {
    let stack = Stack::ephemeral().unwrap();
    send_refused(&stack, 10);
    let mut command = Places::of(&stack).consumer();
    command.args([
        "--allow-dead-letters",
        "2000",
        "--writers",
        "1",
        "--batch-rows",
        "30000",
        "--batch-interval",
        "10s",
    ]);
    let mut member = Member::start(command);
    member.until("a part of the batch", |_| number(&stack, LETTERS) > 0);
    member.signal("-KILL");
    member.was_killed();
    assert!((1..2_000).contains(&number(&stack, LETTERS)), "killed too late");
    let places = Places::of(&stack);
    refused_in_bulk(&stack, &places, 2_000, "2000", Duration::from_mins(1));
}
