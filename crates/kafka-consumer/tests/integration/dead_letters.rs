//! The `dead-letters` command: list, show, replay and discard rejected records.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::records::{Record, days_ago, event, now, produce};
use crate::support::{
    READER, WRITER, catch_up, execute, fail, generator, number, printed, printed_json, query, succeed, verify,
};
use local_stack::Stack;
use serde_json::{Value, json};

const DEAD_LETTERS: &str = "dead-letters";

/// Returns dead letters of all kinds: bytes that are not UTF-8, text that is not JSON, a tombstone, and a record with
/// headers.
fn refused_records() -> Vec<Record> {
    let control = event(1, now(), "to\\u0000ols").replace("rfq_sent", "sent\u{202e}");
    let mut tagged = Record::of(2, control);
    tagged.headers = vec![("run".into(), b"7abc00001".to_vec()), ("bytes".into(), b"\xfe\x1b[2J".to_vec())];
    vec![
        Record::of(0, *b"{\"user_id\":\"\xff\x1b[31m\"}"),
        Record::of(0, event(2, now(), "tools")),
        Record::of(0, *b"{\"event_id\": nonsense}"),
        Record { payload: None, ..Record::of(1, "") },
        tagged,
    ]
}

fn offsets(list: &Value) -> Vec<(i64, i64)> {
    let place = |letter: &Value| (letter["partition"].as_i64().unwrap(), letter["offset"].as_i64().unwrap());
    let mut places: Vec<_> = list["dead_letters"].as_array().unwrap().iter().map(place).collect();
    places.sort_unstable();
    places
}

fn scratch(name: &str) -> std::path::PathBuf {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    std::env::temp_dir().join(format!("{name}-{}-{nanos}", std::process::id()))
}

#[test]
fn they_are_listed_shown_exported_and_discarded() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let records = refused_records();
    produce(&stack, &records);
    catch_up(&stack, &[]);

    listing(&stack);
    showing(&stack);
    exporting(&stack, &records);
    discarding(&stack);
}

fn listing(stack: &Stack) {
    let shown = printed(stack, &[DEAD_LETTERS, "list"]);
    assert!(shown.starts_with("4 dead letters of group kafka-consumer, topic product-events"), "{shown}");
    assert!(shown.contains("unknown_event_type") && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let counted = printed(stack, &[DEAD_LETTERS, "list", "--count"]);
    assert!(counted.contains("1  empty_value") && !counted.contains("offset"), "{counted}");
    let limited = printed(stack, &[DEAD_LETTERS, "list", "--limit", "1"]);
    assert!(limited.contains("3 older dead letters not shown"), "{limited}");

    let chosen = |flags: &[&str]| offsets(&printed_json(stack, &[&[DEAD_LETTERS, "list", "--json"], flags].concat()));
    let all = vec![(0, 0), (0, 2), (1, 0), (2, 0)];
    assert_eq!(chosen(&[]), all);
    assert_eq!(chosen(&["--reason", "not_json", "--reason", "empty_value"]), [(0, 2), (1, 0)]);
    assert_eq!(chosen(&["--partition", "0"]), [(0, 0), (0, 2)]);
    assert_eq!(chosen(&["--run", "7abc00001"]), [(2, 0)]);
    assert_eq!((chosen(&["--since", "1h"]), chosen(&["--until", "1h"])), (all.clone(), vec![]));
    assert_eq!((chosen(&["--sqlstate", "23514"]), chosen(&["--group-id", "other"])), (vec![], vec![]));
    assert_eq!((chosen(&["--state", "discarded"]), chosen(&["--state", "all"])), (vec![], all));
    assert!(fail(stack, WRITER, &[DEAD_LETTERS, "list", "--since", "yesterday"], 2).contains("RFC 3339"));
}

fn showing(stack: &Stack) {
    let shown = printed(stack, &[DEAD_LETTERS, "show", "0", "0"]);
    let lines: Vec<&str> = shown.lines().collect();
    let payload = lines.iter().position(|line| *line == r#"{"user_id":"\xff\x1b[31m"}"#).expect(&shown);
    assert_eq!(lines[payload + 1], "            ^ the value is not UTF-8", "{shown}");
    let shown = printed(stack, &[DEAD_LETTERS, "show", "2", "0"]);
    assert!(shown.contains("event_type: the text is not an event type\n"), "{shown}");
    assert!(shown.contains("category: a text contains control characters\n"), "{shown}");
    assert!(shown.contains(r"header       bytes: \xfe\x1b[2J") && shown.contains(r"sent\u{202e}"), "{shown}");
    assert!(!shown.chars().any(|one| one.is_control() && one != '\n'), "{shown:?}");
    assert!(printed(stack, &[DEAD_LETTERS, "show", "1", "0"]).contains("a tombstone"));
    assert!(fail(stack, WRITER, &[DEAD_LETTERS, "show", "0", "1"], 1).contains("is not a dead letter"));
}

fn exporting(stack: &Stack, records: &[Record]) {
    let path = scratch("letters");
    let file = path.to_str().unwrap();
    printed(stack, &[DEAD_LETTERS, "export", "--output", file]);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, printed(stack, &[DEAD_LETTERS, "export"]));
    let letters: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters.len(), 4);
    assert_eq!(letters[0]["payload_base64"], "eyJ1c2VyX2lkIjoi/xtbMzFtIn0=");
    assert_eq!(letters[1]["payload"], "{\"event_id\": nonsense}");
    assert_eq!((&letters[2]["payload"], &letters[2]["key"]), (&Value::Null, &json!("1")));
    assert_eq!(letters[3]["payload"].as_str().unwrap().as_bytes(), records[4].payload.as_deref().unwrap());
    assert_eq!(letters[3]["headers"][1], json!({"name": "bytes", "value_base64": "/htbMko="}));
    let refused = fail(stack, WRITER, &[DEAD_LETTERS, "export", "--output", file], 1);
    assert!(refused.contains(file) && refused.contains("--overwrite"), "{refused}");
    printed(stack, &[DEAD_LETTERS, "export", "--output", file, "--overwrite"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    std::fs::remove_file(path).unwrap();
}

fn discarding(stack: &Stack) {
    let open = "SELECT count(*) FROM pipeline.dead_letters WHERE payload IS NOT NULL";
    assert!(fail(stack, WRITER, &[DEAD_LETTERS, "discard"], 2).contains("--yes"));
    assert!(printed(stack, &[DEAD_LETTERS, "discard", "--older-than", "1d"]).starts_with("nothing discarded"));
    assert!(fail(stack, READER, &[DEAD_LETTERS, "discard", "--yes"], 1).contains("permission denied"));
    assert!(printed(stack, &[DEAD_LETTERS, "discard", "--yes", "--older-than", "1d"]).starts_with("0 dead letters"));
    assert_eq!(number(stack, open), 3);
    assert!(printed(stack, &[DEAD_LETTERS, "discard", "--yes", "--reason", "not_json"]).starts_with("1 dead letters"));
    assert_eq!(number(stack, open), 2);
    let row = &query(
        stack,
        "SELECT reason_code, payload IS NULL, key, discarded_at > first_seen_at FROM pipeline.dead_letters
         WHERE partition = 0 AND \"offset\" = 2",
    )[0];
    assert_eq!((row.get(0), row.get(1), row.get(3)), ("not_json", true, true));
    assert_eq!(row.get::<_, &[u8]>(2), b"1");
    assert!(printed(stack, &[DEAD_LETTERS, "discard", "--yes", "--limit", "1"]).starts_with("1 dead letters"));
    assert!(printed(stack, &[DEAD_LETTERS, "show", "0", "2"]).contains("payload      discarded"));
    assert!(printed(stack, &[DEAD_LETTERS, "list", "--state", "discarded"]).starts_with("2 dead letters"));
    let asked = fail(stack, WRITER, &[DEAD_LETTERS, "discard", "--state", "all"], 2);
    assert!(asked.contains("discard 2 payloads"), "those that are discarded are not counted: {asked}");
}

#[test]
fn what_the_rules_accept_later_becomes_a_row() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let time = days_ago(500);
    let old = |number| Record::of(0, event(number, time, "tools"));
    // One event is sent twice, one gets its row by other means, and one value is never valid.
    produce(&stack, &[old(1), old(2), old(1), old(3), Record::of(1, "nonsense")]);
    catch_up(&stack, &[]);
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters"), 5);
    execute(&stack, &format!("SELECT pipeline.ensure_partition('{}')", time.hour().date()));
    let required = event_model::FIELDS.iter().filter(|field| !field.has_default).map(|field| field.name);
    let columns = required.collect::<Vec<_>>().join(", ");
    let third = event(3, time, "furniture");
    execute(
        &stack,
        &format!(
            "INSERT INTO staging.product_events_raw ({columns})
             SELECT {columns} FROM json_populate_record(NULL::staging.product_events_raw, '{third}')"
        ),
    );

    let replay = |flags: &[&str]| printed_json(&stack, &[&[DEAD_LETTERS, "replay", "--json"], flags].concat());
    let refused = replay(&[]);
    assert_eq!((&refused["letters"], &refused["rows"]), (&json!(5), &json!(0)));
    assert_eq!(refused["refused"][1]["reason"], "timestamp_outside_window");
    let wider = ["--max-event-age", "600d"];
    let shown = |flags: &[&str]| printed(&stack, &[&[DEAD_LETTERS, "show", "0", "0"], flags].concat());
    assert!(shown(&[]).contains("validation   fails") && shown(&wider).contains("validation   passes"));
    let tried = replay(&[wider[0], wider[1], "--dry-run"]);
    let rows = "SELECT count(*) FROM staging.product_events_raw";
    let open = "SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NULL";
    assert_eq!((number(&stack, rows), number(&stack, open)), (1, 5), "a dry run changes nothing");

    let done = replay(&wider);
    assert_eq!(tried["rows"], done["rows"]);
    assert_eq!((&done["rows"], &done["duplicates"], &done["refused"][0]["count"]), (&json!(2), &json!(2), &json!(1)));
    assert_eq!(done["duplicates_differing"], json!(1), "the row that came another way has another category");
    assert_eq!((number(&stack, rows), number(&stack, open)), (3, 1));
    assert!(number(&stack, "SELECT count(*) FROM pipeline.touched_hours") > 0);
    assert_eq!(number(&stack, "SELECT min(attempts)::bigint FROM pipeline.dead_letters"), 3);
    let sums = "SELECT sum(records - rows_inserted - duplicates - dead_letters - expired - suppressed)::bigint * 100
                + sum(dead_letters)::bigint FROM pipeline.consumer_offsets";
    assert_eq!(number(&stack, sums), 5, "each record is counted by its outcome when it was read");

    let again = replay(&wider);
    assert_eq!((&again["letters"], &again["rows"]), (&json!(1), &json!(0)));
    assert_eq!(number(&stack, rows), 3);
}

#[test]
fn what_postgresql_refuses_is_kept_and_goes_in_later() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    execute(&stack, "ALTER TABLE staging.product_events_raw ADD CONSTRAINT no_poison CHECK (category <> 'poison')");
    let generate = |run: &str| {
        let mut generator = generator(&stack);
        generator.args(["--count", "3000", "--run-id", run, "--seed", "7", "--fault", "duplicate=1%,corrupt=1%"]);
        succeed(generator);
    };
    generate("before");
    produce(&stack, &[Record::of(3, event(1, now(), "poison"))]);
    generate("after");
    catch_up(&stack, &["--writers", "1", "--batch-interval", "3s"]);
    let hold = |when: &str| {
        for run in ["before", "after"] {
            let report = verify(&stack, run);
            assert!(report.holds(), "{when}: {report}");
        }
    };
    hold("with the constraint");
    let letters = query(&stack, "SELECT sqlstate, partition FROM pipeline.dead_letters WHERE stage = 'insert'");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].get(0), letters[0].get(1)), ("23514", 3));
    let poison = "SELECT count(*) FROM staging.product_events_raw WHERE category = 'poison'";

    let replay = || printed_json(&stack, &[DEAD_LETTERS, "replay", "--json", "--sqlstate", "23514"]);
    let kept = replay();
    assert_eq!((&kept["rows"], &kept["refused"][0]["reason"]), (&json!(0), &json!("refused_by_postgres 23514")));
    assert_eq!(number(&stack, poison), 0);
    execute(&stack, "ALTER TABLE staging.product_events_raw DROP CONSTRAINT no_poison");
    let shown = printed(&stack, &[DEAD_LETTERS, "list", "--sqlstate", "23514"]);
    assert!(shown.contains("refused_by_postgres 23514"), "{shown}");
    assert_eq!(replay()["rows"], json!(1));
    assert_eq!(number(&stack, poison), 1);
    hold("after the replay");
    let nothing = replay();
    assert_eq!((&nothing["letters"], number(&stack, poison)), (&json!(0), 1));
    hold("after the second replay");
}
