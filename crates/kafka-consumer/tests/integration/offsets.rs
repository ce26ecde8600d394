//! The `offsets` command, which changes the offsets of a group.

use std::process::Stdio;

use crate::support::records::{Record, event, now, produce};
use crate::support::{
    GROUP, READER, WRITER, catch_up, connect_to, consumer, execute, execute_as, fail, generator, migrate, number,
    printed, printed_json, program, query, runtime, signal, succeed, url_of, verify, verify_with, wait_until,
};
use local_stack::Stack;
use tokio_postgres::error::{DbError, SqlState};
use verifier::Terms;

/// Sets the offsets of the group as the writer.
fn set(stack: &Stack, to: &[&str]) -> String {
    let servers = stack.bootstrap_servers();
    printed(stack, &[&["offsets", "set", "--bootstrap-servers", &servers, "--reason", "a test"], to].concat())
}

fn refuse(stack: &Stack, user: &str, to: &[&str], code: i32) -> String {
    let servers = stack.bootstrap_servers();
    fail(stack, user, &[&["offsets", "set", "--bootstrap-servers", &servers, "--reason", "a test"], to].concat(), code)
}

fn sum(stack: &Stack, column: &str) -> i64 {
    number(stack, &format!("SELECT sum({column})::bigint FROM pipeline.consumer_offsets"))
}

#[test]
fn nothing_doubles_when_a_group_goes_back() {
    let stack = Stack::ephemeral().unwrap();
    let mut made = generator(&stack);
    made.args(["--count", "20000", "--run-id", "again", "--seed", "7", "--fault", "duplicate=1%,corrupt=1%"]);
    succeed(made);
    catch_up(&stack, &[]);
    let report = verify(&stack, "again");
    assert!(report.holds(), "{report}");
    let counts = ["records", "rows_inserted", "duplicates", "dead_letters"];
    let before = counts.map(|column| sum(&stack, column));
    let letters = "SELECT count(*) FROM pipeline.dead_letters";
    assert!(before[3] > 100 && number(&stack, letters) == before[3], "{before:?}");

    let said = set(&stack, &["--to-earliest"]);
    assert_eq!(said.lines().count(), 6, "{said}");
    assert_eq!((sum(&stack, "next_offset"), sum(&stack, "records")), (0, before[0]));
    let known = "SELECT count(fingerprint) FROM pipeline.consumer_offsets";
    assert_eq!(number(&stack, known), 6, "whether the topic is the same can still be told");
    let audit = query(
        &stack,
        "SELECT count(*), sum(from_offset)::bigint, sum(to_offset)::bigint, min(changed_by), min(host(client_address)),
             min(target), min(reason) FROM pipeline.offset_changes WHERE changed_at > now() - interval '1 minute'",
    );
    let row = &audit[0];
    let numbers: [i64; 3] = std::array::from_fn(|column| row.get(column));
    assert_eq!((numbers[0], numbers[2]), (6, 0));
    assert!(numbers[1] >= before[0]);
    let texts: [&str; 4] = std::array::from_fn(|column| row.get(column + 3));
    assert_eq!(texts, [WRITER, "127.0.0.1", "--to-earliest", "a test"]);

    catch_up(&stack, &[]);
    let after = counts.map(|column| sum(&stack, column));
    assert_eq!(after, [2 * before[0], before[1], 2 * before[2] + before[1], 2 * before[3]]);
    assert_eq!(number(&stack, letters), before[3]);
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters WHERE attempts <> 2"), 0);
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), before[1]);
    let report = verify_with(&stack, "again", &Terms::for_group(GROUP).of_the_run_only());
    assert!(report.holds(), "{report}");
}

#[test]
fn a_group_is_moved_only_while_nobody_reads() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    produce(&stack, &[Record::of(0, event(1, now(), "tools"))]);
    let mut child = consumer(&stack).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, || sum(&stack, "records") == 1);
    let said = refuse(&stack, WRITER, &["--to-earliest"], 1);
    assert!(said.contains("group kafka-consumer is active in Kafka (") && said.contains("127.0.0.1"), "{said}");
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());

    let runtime = runtime();
    let holder = runtime.block_on(async {
        let client = connect_to(&url_of(&stack, WRITER)).await.unwrap();
        client
            .batch_execute("BEGIN; SELECT FROM pipeline.consumer_offsets WHERE partition = 3 FOR UPDATE")
            .await
            .unwrap();
        client
    });
    let said = refuse(&stack, WRITER, &["--to-earliest"], 1);
    assert!(said.contains("a transaction in PostgreSQL locks those of group"), "{said}");
    runtime.block_on(holder.batch_execute("ROLLBACK")).unwrap();
    assert_eq!(sum(&stack, "next_offset"), 1);
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.offset_changes"), 0);

    assert!(refuse(&stack, READER, &["--to-earliest"], 1).contains("permission denied"));
    set(&stack, &["--to-earliest"]);
    assert_eq!(sum(&stack, "next_offset"), 0);
}

#[test]
fn a_group_is_moved_to_offsets_times_and_ends() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let record = |number| Record::of(0, event(number, now(), "tools"));
    produce(&stack, &[record(1), record(2)]);
    catch_up(&stack, &[]);
    let between = loop {
        let time = now();
        if time.micros() % 1_000 < 500 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            break time.to_string();
        }
    };
    produce(&stack, &[record(3)]);
    let next = |partition: i32| {
        number(&stack, &format!("SELECT next_offset FROM pipeline.consumer_offsets WHERE partition = {partition}"))
    };
    let servers = stack.bootstrap_servers();
    let dry_run = ["offsets", "set", "--to-latest", "--dry-run", "--bootstrap-servers", &servers];
    let planned = printed(&stack, &dry_run);
    assert!(planned.contains("partition 0: 2 to 3, skips up to 1 record"), "{planned}");
    assert!(planned.contains("partition 1: 0 to 0, unchanged"), "{planned}");
    assert_eq!((next(0), next(1)), (2, 0));
    set(&stack, &["--to-latest"]);
    assert_eq!((next(0), next(1)), (3, 0));
    set(&stack, &["--to-offset", "0:1"]);
    assert_eq!((next(0), next(1)), (1, 0));
    set(&stack, &["--to-time", &between]);
    assert_eq!((next(0), next(1)), (2, 0));
    let shown = printed(&stack, &["offsets", "show"]);
    assert!(shown.contains(&format!("partition 0: 1 to 2 (--to-time {between})")), "{shown}");
    assert!(shown.contains("by event_writer from 127.0.0.1: a test"), "{shown}");
    let shown = printed_json(&stack, &["offsets", "show", "--json"]);
    assert_eq!((&shown["offsets"][0]["next_offset"], &shown["changes"][5]["partition"]), (&2.into(), &0.into()));
    let table = printed(&stack, &["offsets", "show", "--group-id", "other"]);
    assert!(table.contains("group other has not read product-events yet"), "{table}");
    assert!(shown["offsets"].as_array().unwrap().len() == 6);

    assert!(refuse(&stack, WRITER, &["--to-offset", "0:4"], 1).contains("Kafka has 0 to 3"));
    assert!(refuse(&stack, WRITER, &["--to-offset", "6:0"], 1).contains("no partition 6"));
    assert!(
        refuse(&stack, WRITER, &["--to-latest", "--group-id", "other"], 1).contains("has not read product-events yet")
    );
    for wrong in [
        &["--to-latest", "--to-earliest"][..],
        &["--to-offset", "x"],
        &["--to-time", "soon"],
        &[],
        &["--to-offset", "1:0,1:0"],
    ] {
        refuse(&stack, WRITER, wrong, 2);
    }
    let none = program(&stack, WRITER, &["offsets", "set", "--to-latest"]).output().unwrap();
    assert!(none.status.code() == Some(2) && String::from_utf8_lossy(&none.stderr).contains("--reason"));
    assert_eq!((next(0), next(1)), (2, 0));
}

#[test]
fn partitions_that_the_group_has_never_seen_go_along() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let servers = stack.bootstrap_servers();
    let add = ["--bootstrap-server", &servers, "--alter", "--topic", "product-events", "--partitions", "8"];
    succeed(stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &add));
    produce(&stack, &[1, 2].map(|number| Record::of(7, event(number, now(), "tools"))));
    assert!(set(&stack, &["--to-latest"]).contains("partition 7: 0 to 2"));
    catch_up(&stack, &[]);
    assert_eq!((sum(&stack, "next_offset"), sum(&stack, "records")), (2, 0));
}

#[test]
fn a_topic_made_anew_is_not_gone_back_in() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    produce(&stack, &[Record::of(0, event(1, now(), "tools")), Record::of(0, event(2, now(), "tools"))]);
    catch_up(&stack, &[]);
    let servers = stack.bootstrap_servers();
    let topics = |action: &[&str]| {
        let arguments = [&["--bootstrap-server", &servers, "--topic", "product-events"], action].concat();
        assert!(stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments).output().unwrap().status.success());
    };
    topics(&["--delete"]);
    topics(&["--create", "--partitions", "6"]);
    produce(&stack, &[3, 4, 5].map(|number| Record::of(0, event(number, now(), "tools"))));
    let said = refuse(&stack, WRITER, &["--to-earliest"], 1);
    assert!(
        said.contains("topic product-events was deleted and recreated") && said.contains("--allow-recreated-topic"),
        "{said}"
    );
    assert_eq!(sum(&stack, "next_offset"), 2);
}

#[test]
fn a_letter_whose_record_becomes_a_row_when_read_again_is_settled() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    execute(&stack, "ALTER TABLE staging.product_events_raw ADD CONSTRAINT no_poison CHECK (category <> 'poison')");
    let good = Record::of(0, event(1, now(), "tools"));
    produce(&stack, &[good, Record::of(0, event(2, now(), "poison")), Record::of(0, "nonsense")]);
    catch_up(&stack, &[]);
    execute(&stack, "ALTER TABLE staging.product_events_raw DROP CONSTRAINT no_poison");
    set(&stack, &["--to-earliest"]);
    catch_up(&stack, &[]);
    let letters = query(
        &stack,
        "SELECT reason_code, attempts, replayed_at IS NOT NULL FROM pipeline.dead_letters ORDER BY \"offset\"",
    );
    let letters: Vec<(&str, i32, bool)> = letters.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(letters, [("refused_by_postgres", 2, true), ("not_json", 2, false)]);
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw"), 2);
}

/// Restores the tables from before V011, with the constraint renamed and an additional one of the owner.
const BEFORE_V011: &str = "
    ALTER TABLE pipeline.consumer_offsets DROP COLUMN suppressed;
    ALTER TABLE pipeline.consumer_offsets ADD CONSTRAINT sums
        CHECK (records = rows_inserted + duplicates + dead_letters + expired);
    ALTER TABLE pipeline.consumer_offsets ADD CONSTRAINT the_owners CHECK (records < 1000000);
    ALTER TABLE pipeline.rebuilt_files DROP COLUMN suppressed;
    INSERT INTO pipeline.consumer_offsets (consumer_group, topic, partition, next_offset, records, rows_inserted, expired)
        VALUES ('g', 't', 0, 10, 10, 9, 1)";

#[test]
fn counts_add_up_with_suppressed_rows() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    execute(&stack, BEFORE_V011);
    execute(&stack, include_str!("../../../../db_table_scripts/V011__suppressed_rows.sql"));
    let change = |columns| execute_as(&stack, "admin", &format!("UPDATE pipeline.consumer_offsets SET {columns}"));
    change("records = records + 2, suppressed = suppressed + 2").unwrap();
    change("rows_inserted = rows_inserted - 1, suppressed = suppressed + 1").unwrap();
    for (refused, constraint) in [
        ("suppressed = suppressed + 1", "consumer_offsets_counts_add_up"),
        ("records = records + 1", "consumer_offsets_counts_add_up"),
        ("records = 1000000, rows_inserted = 1000000, expired = 0, suppressed = 0", "the_owners"),
    ] {
        let error = change(refused).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION), "{refused}");
        assert_eq!(error.as_db_error().and_then(DbError::constraint), Some(constraint), "{refused}");
    }
    let shown = printed_json(&stack, &["offsets", "show", "--group-id", "g", "--topic", "t", "--json"]);
    assert_eq!(shown["offsets"][0]["suppressed"], 3, "{shown}");
    let rebuilt = "SELECT count(*) FROM pg_attribute
        WHERE attrelid = 'pipeline.rebuilt_files'::regclass AND attname = 'suppressed' AND NOT attisdropped";
    assert_eq!(number(&stack, rebuilt), 1);
}
