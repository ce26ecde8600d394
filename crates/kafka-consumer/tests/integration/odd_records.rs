//! Records of careless producers: timestamps in another unit or none, header names that are not UTF-8.

use crate::support::records::{days_ago, event, now};
use crate::support::{catch_up, execute, generator, number, printed, printed_json, query, runtime, succeed, verify};
use event_model::Timestamp;
use local_stack::Stack;
use local_stack::raw_producer::{RawProducer, RawRecord};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

const NANOS: i64 = 1_769_000_000_000_000_000;
const MICROS: i64 = 1_769_000_000_000_000;
const DOTNET_TICKS: i64 = 639_000_000_000_000_000;
const LETTERS: &str = "SELECT count(*) FROM pipeline.dead_letters";
const ROWS: &str = "SELECT count(*) FROM staging.product_events_raw";

/// Creates a topic that accepts every timestamp, as topics did before Kafka 3.6.
fn any_timestamp(stack: &Stack) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create().unwrap();
    let most = i64::MAX.to_string();
    let topic = NewTopic::new("product-events", 1, TopicReplication::Fixed(1))
        .set("message.timestamp.before.max.ms", &most)
        .set("message.timestamp.after.max.ms", &most);
    let made = runtime().block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// Sends events with consecutive IDs, given their record timestamps and event times.
fn send(stack: &Stack, records: &[(i64, Timestamp)]) {
    let record = |(number, (timestamp, happened)): (u32, &(i64, Timestamp))| RawRecord {
        timestamp: *timestamp,
        value: event(number, *happened, "tools").into_bytes(),
        ..RawRecord::default()
    };
    produce(stack, (1..).zip(records).map(record));
}

fn produce(stack: &Stack, records: impl IntoIterator<Item = RawRecord>) {
    let mut producer = RawProducer::connect(&stack.bootstrap_servers(), "product-events").unwrap();
    for record in records {
        producer.send(&record).unwrap();
    }
}

fn in_days(days: i64) -> Timestamp {
    days_ago(-days)
}

fn millis(time: Timestamp) -> i64 {
    time.micros() / 1_000
}

#[test]
fn record_timestamps_in_other_units_are_dead_letters() {
    let stack = Stack::ephemeral().unwrap();
    any_timestamp(&stack);
    let odd = [NANOS, MICROS, DOTNET_TICKS, i64::MAX, 0, 1];
    let good = (millis(now()), now());
    let mut records = vec![good];
    records.extend(odd.map(|timestamp| (timestamp, now())));
    records.push(good);
    send(&stack, &records);
    catch_up(&stack, &[]);
    assert_eq!((number(&stack, ROWS), number(&stack, LETTERS)), (2, 6));
    let outside = format!("{LETTERS} WHERE reason_code = 'timestamp_outside_window' AND stage = 'validate'");
    assert_eq!(number(&stack, &outside), 6);
    // A second run has nothing left to read.
    catch_up(&stack, &[]);
    stored(&stack);
    looked_at(&stack);
    replayed(&stack);
}

/// Checks that PostgreSQL stores each printable timestamp exactly and the maximum in place of later ones.
fn stored(stack: &Stack) {
    let sql = "SELECT (extract(epoch FROM record_timestamp) * 1000000)::bigint, reason FROM pipeline.dead_letters
               ORDER BY \"offset\"";
    let rows = query(stack, sql);
    let stored: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let latest = i64::MAX / 1_000 * 1_000;
    assert_eq!(stored, [latest, MICROS * 1_000, latest, latest, 0, 1_000]);
    let said = |row: usize| rows[row].get::<_, String>(1);
    assert!(said(1).contains("record +58027-05-19T00:53:20.000000Z"), "{}", said(1));
    assert!(said(0).contains("record timestamp 1769000000000000000 ms exceeds the maximum"), "{}", said(0));
    assert!(said(4).contains("record 1970-01-01T00:00:00.000000Z"), "{}", said(4));
}

fn looked_at(stack: &Stack) {
    assert!(printed(stack, &["dead-letters", "list"]).contains("6  timestamp_outside_window"));
    let shown = printed(stack, &["dead-letters", "show", "0", "2"]);
    assert!(shown.contains("record time  +58027-05-19T00:53:20.000000Z"), "{shown}");
    assert!(shown.contains("validation   fails"), "{shown}");
    let exported = printed(stack, &["dead-letters", "export"]);
    let letters: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters[0]["record_timestamp"], "+294247-01-10T04:00:54.775000Z");
    assert_eq!(letters[1]["record_timestamp"], "+58027-05-19T00:53:20.000000Z");
}

fn replayed(stack: &Stack) {
    let again = printed_json(stack, &["dead-letters", "replay", "--json"]);
    assert_eq!((&again["letters"], &again["rows"]), (&6.into(), &0.into()), "{again}");
    assert_eq!(again["refused"][0]["reason"], "timestamp_outside_window");
    assert_eq!((number(stack, ROWS), number(stack, LETTERS)), (2, 6));
}

#[test]
fn the_present_bounds_records_without_a_timestamp_or_from_the_future() {
    let stack = Stack::ephemeral().unwrap();
    any_timestamp(&stack);
    let mut records = vec![
        (-1, now()),
        (-1, days_ago(399)),
        // A record timestamp in the future does no harm, but does not widen the accepted range either.
        (millis(in_days(10)), now()),
        (millis(in_days(10)), in_days(10)),
        (-1, in_days(2)),
    ];
    records.extend((0..300).map(|day| (-1, days_ago(500 + day))));
    send(&stack, &records);
    catch_up(&stack, &[]);
    assert_eq!((number(&stack, ROWS), number(&stack, LETTERS)), (3, 302));
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'staging.product_events_raw'::regclass";
    assert!(number(&stack, days) <= 5, "a table partition for each day that somebody claims");
    let shown = printed(&stack, &["dead-letters", "show", "0", "4"]);
    assert!(shown.contains("record time  none") && shown.contains("record without a timestamp"), "{shown}");
    // The replay uses the time of the first read, not the clock, so rejected events stay rejected.
    let again = printed_json(&stack, &["dead-letters", "replay", "--json"]);
    assert_eq!((&again["letters"], &again["rows"]), (&302.into(), &0.into()), "{again}");
    let wider = printed_json(&stack, &["dead-letters", "replay", "--json", "--max-event-skew", "11d"]);
    assert_eq!(wider["rows"], 2, "{wider}");
}

#[test]
fn header_names_that_are_not_utf8() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    execute(&stack, "ALTER TABLE staging.product_events_raw ADD CONSTRAINT no_poison CHECK (category <> 'poison')");
    let mut generating = generator(&stack);
    generating.args(["--count", "3000", "--run-id", "odd", "--fault", "corrupt=1%"]);
    succeed(generating);
    let headers: [(&[u8], &[u8]); 4] = [(b"\xff\xfe", b"1"), (b"run", b"x"), (b"a\\\xc3", b""), (b"a\\b", b"\xff")];
    let headers = headers.map(|(name, value)| (name.to_vec(), value.to_vec())).to_vec();
    let time = millis(now());
    let [row, poison] = [(1, "tools"), (2, "poison")].map(|(number, category)| event(number, now(), category));
    let values = ["{\"x\":1}".to_owned(), row, poison];
    let record = |value: String| RawRecord {
        partition: 3,
        timestamp: time,
        key: None,
        value: value.into(),
        headers: headers.clone(),
    };
    produce(&stack, values.map(record));
    catch_up(&stack, &[]);

    let sql = "SELECT header_names, header_values, stage FROM pipeline.dead_letters WHERE key IS NULL ORDER BY stage";
    let letters = query(&stack, sql);
    let stages: Vec<&str> = letters.iter().map(|row| row.get(2)).collect();
    assert_eq!(stages, ["insert", "validate"]);
    for letter in &letters {
        assert_eq!(letter.get::<_, Vec<&str>>(0), [r"\xff\xfe", "run", r"a\\\xc3", r"a\b"]);
        assert_eq!(letter.get::<_, Vec<&[u8]>>(1), [b"1".as_slice(), b"x", b"", b"\xff"]);
    }
    assert!(verify(&stack, "odd").holds(), "{}", verify(&stack, "odd"));
    let servers = stack.bootstrap_servers();
    let mut reconcile = crate::support::program(&stack, crate::support::WRITER, &["reconcile", "--run", "odd"]);
    reconcile.args(["--bootstrap-servers", &servers, "--lake", &stack.lake_url()]).envs(stack.s3().variables());
    succeed(reconcile);
}
