//! Events of a foreign producer, sent with Kafka's console producer.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{consumer, number, query, succeed};
use event_model::{Reason, Timestamp};
use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

fn event(number: u32) -> Value {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let now = Timestamp::from_micros(i64::try_from(micros).unwrap()).to_string();
    // The same instant with a UTC offset of +05:30.
    let time = if number.is_multiple_of(3) { now.replace('Z', "+05:30") } else { now };
    let mut event = json!({
        "event_id": format!("9f3c0b1e-3c5a-4d9b-8e0f-{number:012x}"), "event_timestamp": time,
        "event_type": "rfq_sent", "user_id": number + 1, "account_id": 2, "product_id": 3,
        "category": "Möbel", "experiment_id": "exp_1"
    });
    if number.is_multiple_of(5) {
        event["newer"] = json!({"nested": [1, null, "x"]});
    }
    event
}

/// Returns the event with one defect, as a line for the console producer, or `None` if it cannot send it.
fn broken(number: u32, reason: Reason) -> Option<String> {
    let mut one = event(number);
    let line = match reason {
        // The console producer sends text only, and a null value only with an extra option.
        Reason::NotUtf8 => return None,
        Reason::EmptyValue => String::new(),
        Reason::ValueTooLarge => {
            one["pad"] = json!("x".repeat(65_536));
            one.to_string()
        }
        Reason::NotJson => "{\"event_id\":".to_owned(),
        Reason::NotAnObject => "[1, 2]".to_owned(),
        Reason::DuplicateKey => one.to_string().replacen('{', "{\"user_id\":1,", 1),
        Reason::MissingField => {
            one.as_object_mut().unwrap().remove("category");
            one.to_string()
        }
        other => {
            let (field, value) = match other {
                Reason::NullField => ("account_id", Value::Null),
                Reason::WrongType => ("user_id", json!(1.5)),
                Reason::OutOfRange => ("user_id", json!(3_000_000_000_u32)),
                Reason::BadUuid => ("event_id", json!("not-a-uuid")),
                Reason::BadTimestamp => ("event_timestamp", json!("2026-02-30T00:00:00Z")),
                Reason::TimestampOutsideWindow => ("event_timestamp", json!("1999-01-01T00:00:00Z")),
                Reason::UnknownEventType => ("event_type", json!("window_shopped")),
                Reason::TextEmpty => ("category", json!("")),
                Reason::TextTooLong => ("category", json!("y".repeat(65))),
                _ => ("experiment_id", json!("exp\u{0}1")),
            };
            one[field] = value;
            one.to_string()
        }
    };
    Some(line)
}

#[test]
fn a_thousand_lines_and_each_way_of_being_wrong() {
    let stack = Stack::ephemeral().unwrap();
    // The consumer creates the topic.
    let mut first = consumer(&stack);
    first.arg("--until-caught-up");
    succeed(first);

    let broken: Vec<(Reason, String)> =
        Reason::ALL.iter().filter_map(|reason| Some((*reason, broken(9_999, *reason)?))).collect();
    let good = 1_000 - u32::try_from(broken.len()).unwrap();
    let mut lines: Vec<String> = (0..good).map(|number| event(number).to_string()).collect();
    for (place, (_, line)) in broken.iter().enumerate() {
        lines.insert(place * 50, line.clone());
    }
    let servers = stack.bootstrap_servers();
    let arguments = ["--bootstrap-server", &servers, "--topic", "product-events", "--producer-property", "acks=all"];
    let mut producer = stack.kafka.tool("org.apache.kafka.tools.ConsoleProducer", &arguments);
    let mut child = producer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", lines.join("\n")).unwrap();
    assert!(child.wait().unwrap().success());

    let client: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
    client.send(BaseRecord::<[u8], [u8]>::to("product-events").payload(b"{\"user_id\":\"\xff\"}")).unwrap();
    client.send(BaseRecord::<[u8], [u8]>::to("product-events").key(b"tombstone")).unwrap();
    client.flush(Duration::from_secs(10)).unwrap();

    let mut run = consumer(&stack);
    run.arg("--until-caught-up");
    succeed(run);

    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), i64::from(good));
    let late = "SELECT count(*) FROM staging.product_events_raw WHERE event_timestamp < now() - interval '5 hours'";
    assert_eq!(number(&stack, late), i64::from(good.div_ceil(3)), "offsets count");
    assert_eq!(
        number(&stack, "SELECT count(*) FROM staging.product_events_raw WHERE category = 'Möbel'"),
        i64::from(good)
    );

    let letters = query(&stack, "SELECT reason_code, payload FROM pipeline.dead_letters WHERE stage = 'validate'");
    let mut found: BTreeMap<Reason, Vec<Option<Vec<u8>>>> = BTreeMap::new();
    for row in letters {
        found.entry(row.get::<_, String>(0).parse().unwrap()).or_default().push(row.get(1));
    }
    for (reason, line) in &broken {
        let payloads = found.get(reason).unwrap_or_else(|| panic!("no dead letter says {reason}"));
        assert!(payloads.contains(&Some(line.clone().into_bytes())), "{reason}: the payload differs from the record");
    }
    assert_eq!(found[&Reason::NotUtf8], [Some(b"{\"user_id\":\"\xff\"}".to_vec())]);
    assert!(found[&Reason::EmptyValue].contains(&None), "the tombstone is kept as one");
    let all: usize = found.values().map(Vec::len).sum();
    assert_eq!(all, broken.len() + 2, "{found:?}");
}
