//! Retention drops old days, and they are not created again.

use std::process::Stdio;

use crate::support::records::{Record, days_ago, event, now, produce};
use crate::support::{
    GROUP, OWNER, WRITER, catch_up, connect_to, consumer, execute, execute_as, fail, generator, number, printed,
    program, runtime, signal, succeed, url_of, verify, verify_with, wait_until,
};
use local_stack::Stack;
use verifier::Terms;

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'staging.product_events_raw'::regclass";
const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r'";
const EXPIRED: &str = "SELECT sum(expired)::bigint FROM pipeline.consumer_offsets";
const ROWS: &str = "SELECT count(*) FROM staging.product_events_raw";

fn retention(stack: &Stack, flags: &[&str]) -> String {
    let output = succeed(program(stack, OWNER, &[&["retention"], flags].concat()));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_dropped_counts_as_expired_when_it_is_read_again() {
    let stack = Stack::ephemeral().unwrap();
    let mut made = generator(&stack);
    made.args(["--count", "20000", "--event-rate", "5000/day", "--run-id", "old", "--seed", "7"]);
    made.args(["--fault", "duplicate=1%,corrupt=1%"]);
    succeed(made);
    catch_up(&stack, &[]);
    let report = verify(&stack, "old");
    assert!(report.holds(), "{report}");

    let floor = days_ago(2).hour().date();
    let older = format!("{ROWS} WHERE event_timestamp < timestamptz '{floor} 00:00:00Z'");
    let (all, older) = (number(&stack, ROWS), number(&stack, &older));
    let partitions = number(&stack, PARTITIONS);
    assert!(older > 1_000 && partitions >= 4, "{older} in {partitions}");
    let said = retention(&stack, &["--keep", "2d", "--dry-run"]);
    assert!(said.contains(&floor) && said.contains("would drop staging.product_events_raw_"), "{said}");
    assert!(said.contains("in total ") && said.contains(" MiB)"), "{said}");
    assert_eq!((number(&stack, ROWS), number(&stack, PARTITIONS)), (all, partitions));

    let notes = number(&stack, "SELECT count(*) FROM pipeline.touched_hours");
    let letters = number(&stack, "SELECT count(*) FROM pipeline.dead_letters");
    let said = retention(&stack, &["--keep", "2d"]);
    assert_eq!(number(&stack, ROWS), all - older, "{said}");
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.touched_hours"), notes);
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters"), letters);
    assert_eq!(number(&stack, EXPIRED), 0);

    let servers = stack.bootstrap_servers();
    printed(&stack, &["offsets", "set", "--bootstrap-servers", &servers, "--to-earliest", "--reason", "a test"]);
    catch_up(&stack, &[]);
    let expired = number(&stack, EXPIRED);
    assert!(expired >= older && expired < older + older / 20, "{expired} of {older} rows and their repeats");
    assert_eq!(number(&stack, ROWS), all - older);
    let report = verify_with(&stack, "old", &Terms::for_group(GROUP).of_the_run_only());
    assert!(report.holds(), "{report}");
    let said = retention(&stack, &["--keep", "400d"]);
    assert!(said.contains(&floor), "the floor never goes down: {said}");

    execute(
        &stack,
        "CREATE TABLE staging.future PARTITION OF staging.product_events_raw FOR VALUES FROM ('2100-01-01Z') TO (MAXVALUE)",
    );
    let said = retention(&stack, &["--keep", "1d", "--dry-run"]);
    assert!(said.contains("would drop") && !said.contains("future"), "a partition without an end stays: {said}");
}

#[test]
fn a_running_consumer_goes_on_while_a_day_is_taken() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    let mut child = consumer(&stack).stderr(Stdio::null()).spawn().unwrap();
    let records = "SELECT sum(records)::bigint FROM pipeline.consumer_offsets";
    produce(&stack, &[Record::of(0, event(1, days_ago(30), "tools")), Record::of(0, event(2, now(), "tools"))]);
    wait_until(&mut child, || number(&stack, records) == 2);
    let said = retention(&stack, &["--keep", "10d"]);
    assert!(said.contains("dropped staging."), "{said}");
    produce(&stack, &[Record::of(0, event(3, days_ago(30), "tools")), Record::of(0, event(4, now(), "tools"))]);
    wait_until(&mut child, || number(&stack, records) == 4);
    assert_eq!((number(&stack, EXPIRED), number(&stack, ROWS)), (1, 2));
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_database_where_backslashes_escape_loses_its_old_days_too() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    execute(&stack, "ALTER DATABASE warehouse SET standard_conforming_strings = off");
    produce(&stack, &[Record::of(0, event(1, days_ago(30), "tools")), Record::of(0, event(2, now(), "tools"))]);
    catch_up(&stack, &[]);
    let said = retention(&stack, &["--keep", "10d"]);
    assert!(said.contains("dropped staging.product_events_raw_"), "{said}");
    assert_eq!(number(&stack, ROWS), 1);
}

#[test]
fn what_was_interrupted_is_finished_by_the_next_run() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    for day in ["2026-01-01", "2026-01-02", "2026-01-03"] {
        execute_as(&stack, WRITER, &format!("SELECT pipeline.ensure_partition('{day}')")).unwrap();
    }
    assert_eq!(number(&stack, PARTITIONS), 4, "the consumer has created the table partition of tomorrow");
    // A day that a user has detached to keep it.
    execute(&stack, "ALTER TABLE staging.product_events_raw DETACH PARTITION staging.product_events_raw_20260103");
    let runtime = runtime();
    let reader = runtime.block_on(async {
        let client = connect_to(&url_of(&stack, "admin")).await.unwrap();
        client.batch_execute("BEGIN; SELECT count(*) FROM staging.product_events_raw").await.unwrap();
        client
    });
    let mut child = program(&stack, OWNER, &["retention", "--keep", "1d"]).spawn().unwrap();
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    wait_until(&mut child, || number(&stack, pending) == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'kafka-consumer retention'";
    assert_eq!(number(&stack, end), 1);
    runtime.block_on(reader.batch_execute("ROLLBACK")).unwrap();
    assert_eq!((number(&stack, pending), number(&stack, TABLES)), (1, 4), "stopped in the middle");

    let said = retention(&stack, &["--keep", "1d"]);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!((number(&stack, pending), number(&stack, PARTITIONS), number(&stack, TABLES)), (0, 1, 2));

    // Interrupted between the detach and the drop: the noted table is dropped, and no other one.
    execute(
        &stack,
        "CREATE TABLE staging.product_events_raw_20260104 (LIKE staging.product_events_raw);
         INSERT INTO pipeline.dropped_partitions VALUES ('product_events_raw_20260104')",
    );
    execute(&stack, "ALTER TABLE staging.product_events_raw_20260104 OWNER TO pipeline_owner");
    let said = retention(&stack, &["--keep", "1d"]);
    assert!(said.contains("dropped staging.product_events_raw_20260104"), "{said}");
    let kept = "SELECT count(*) FROM pg_class WHERE relname = 'product_events_raw_20260103'";
    assert_eq!((number(&stack, TABLES), number(&stack, kept)), (2, 1));
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dropped_partitions WHERE dropped_at IS NULL"), 0);

    let said = fail(&stack, WRITER, &["retention", "--keep", "1d"], 1);
    assert!(said.contains("as event_writer: staging.product_events_raw belongs to pipeline_owner"), "{said}");
    assert!(fail(&stack, OWNER, &["retention", "--keep", "5h"], 2).contains("use 1d to"));
    assert!(fail(&stack, OWNER, &["retention"], 2).contains("--keep"));
}

/// PostgreSQL detaches no table partition concurrently beside a DEFAULT partition.
#[test]
fn a_default_partition_is_refused_before_the_floor_is_raised() {
    let stack = Stack::ephemeral().unwrap();
    catch_up(&stack, &[]);
    execute(
        &stack,
        "SELECT pipeline.ensure_partition('2026-01-01');
         CREATE TABLE staging.rest PARTITION OF staging.product_events_raw DEFAULT",
    );
    let partitions = number(&stack, PARTITIONS);
    let unchanged =
        "SELECT (SELECT count(*) FROM pipeline.retention_floors) + (SELECT count(*) FROM pipeline.dropped_partitions)";
    for flags in [&["retention", "--keep", "1d"][..], &["retention", "--keep", "1d", "--dry-run"]] {
        let said = fail(&stack, OWNER, flags, 1);
        assert!(said.contains("DETACH PARTITION staging.rest"), "{said}");
        assert_eq!((number(&stack, unchanged), number(&stack, PARTITIONS)), (0, partitions), "{flags:?}");
    }
    let said = retention(&stack, &["--keep", "400d"]);
    assert!(said.contains("are dropped"), "without a day to drop it is no obstacle: {said}");
    execute(&stack, "ALTER TABLE staging.product_events_raw DETACH PARTITION staging.rest");
    let said = retention(&stack, &["--keep", "1d"]);
    assert!(said.contains("dropped staging.product_events_raw_20260101"), "{said}");
}
