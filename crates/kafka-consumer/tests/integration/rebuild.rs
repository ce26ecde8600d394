//! The `rebuild` command, which restores the table from the lake.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    GROUP, OWNER, WRITER, catch_up, execute, fail, generator, migrate, number, program, signal, succeed, verify_with,
    wait_until,
};
use local_stack::Stack;
use serde_json::Value;
use verifier::Terms;

/// Publishes a run over two hours, which yields two dozen files.
fn publish(stack: &Stack, run: &str, more: &[&str]) {
    let mut command = generator(stack);
    command.args(["--count", "30000", "--event-rate", "250/min", "--run-id", run]).args(more);
    succeed(command);
}

fn rebuild_as(stack: &Stack, user: &str, more: &[&str]) -> Command {
    let mut command = program(stack, user, &["rebuild", "--log-format", "json", "--lake", &stack.lake_url()]);
    command.envs(stack.s3().variables());
    command.args(more);
    command
}

/// Returns the log line with the summary.
fn ended(output: &Output) -> Value {
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == "rebuild ended").unwrap_or_else(|| panic!("no end in {log}"))
}

fn rebuild(stack: &Stack, more: &[&str]) -> Value {
    ended(&succeed(rebuild_as(stack, WRITER, more)))
}

fn rows(stack: &Stack) -> i64 {
    number(stack, "SELECT count(*) FROM staging.product_events_raw")
}

/// Drops all schemas, as if the database had been dropped.
fn empty(stack: &Stack) {
    execute(stack, "DROP SCHEMA staging, refined, pipeline CASCADE; DROP TABLE public.event_pipeline_schema_history");
}

#[test]
fn after_a_rebuild_and_a_catching_up_all_is_as_before() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "lost", &["--fault", "invalid=1%,corrupt=1%,duplicate=1%"]);
    catch_up(&stack, &[]);
    let before = rows(&stack);
    empty(&stack);
    // The owner's rebuild creates the tables; a writer may not.
    let refused = fail(&stack, WRITER, &["rebuild", "--lake", "file:///tmp"], 1);
    assert!(refused.contains("kafka-consumer migrate"), "{refused}");
    let end = ended(&succeed(rebuild_as(&stack, OWNER, &[])));
    assert_eq!((end["rows"].as_i64(), end["duplicates"].as_i64()), (Some(before), Some(0)));
    assert!(end["files"].as_i64().unwrap() > 20, "{end}");
    catch_up(&stack, &[]);
    let report = verify_with(&stack, "lost", &Terms::for_group(GROUP).with_rows_from_elsewhere());
    assert!(report.holds(), "{report}");
    assert_eq!(number(&stack, "SELECT sum(rows_inserted)::bigint FROM pipeline.consumer_offsets"), 0);
}

#[test]
fn holes_are_filled_and_what_is_there_stays() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "holed", &["--from", "2026-11-22T09:30:00Z"]);
    migrate(&stack);
    let all = rebuild(&stack, &[]);
    assert_eq!((all["rows"].as_i64(), rows(&stack)), (Some(30_000), 30_000));
    let gone = "DELETE FROM staging.product_events_raw WHERE event_timestamp >= '2026-11-22 10:05Z'
        AND event_timestamp < '2026-11-22 10:10Z'";
    execute(&stack, gone);
    execute(
        &stack,
        "UPDATE staging.product_events_raw SET category = 'other'
        WHERE event_id = (SELECT min(event_id::text)::uuid FROM staging.product_events_raw)",
    );
    let hole = 30_000 - rows(&stack);
    assert_eq!(hole, 1_250);
    let elsewhere = rebuild(&stack, &["--to", "2026-11-22T10"]);
    assert_eq!((elsewhere["rows"].as_i64(), elsewhere["duplicates_differing"].as_i64()), (Some(0), Some(1)));
    let there = rebuild(&stack, &["--from", "2026-11-22T10:00:00Z", "--to", "2026-11-22T11"]);
    assert_eq!((there["rows"].as_i64(), rows(&stack)), (Some(hole), 30_000));
    let again = rebuild(&stack, &["--from", "2026-11-22", "--to", "2026-11-23"]);
    assert_eq!((again["rows"].as_i64(), again["duplicates"].as_i64()), (Some(0), Some(30_000)));
    assert_eq!(number(&stack, "SELECT count(*) FROM staging.product_events_raw WHERE category = 'other'"), 1);
    let hours = "SELECT count(DISTINCT hour) FROM pipeline.touched_hours";
    assert_eq!(number(&stack, hours), 3, "the features of these hours have to be recomputed");
}

#[test]
fn one_that_was_killed_goes_on() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "killed", &[]);
    migrate(&stack);
    let mut first = rebuild_as(&stack, WRITER, &["--writers", "1", "--batch-rows", "20"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let files = || number(&stack, "SELECT count(*) FROM pipeline.rebuilt_files");
    wait_until(&mut first, || files() >= 3);
    let second = fail_of(rebuild_as(&stack, WRITER, &[]));
    assert!(second.contains("another rebuild of this warehouse is running"), "{second}");
    signal(&first, "-KILL");
    first.wait().unwrap();
    let (before, there) = (files(), rows(&stack));
    assert!(there < 30_000, "it was killed too late");
    let end = rebuild(&stack, &[]);
    assert_eq!((end["files_before"].as_i64(), end["rows"].as_i64()), (Some(before), Some(30_000 - there)));
    assert_eq!(rebuild(&stack, &[])["files_before"], 0, "the next rebuild starts from the beginning");
}

fn fail_of(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ctrl_c_leaves_the_rest_for_later() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "stopped", &[]);
    migrate(&stack);
    let mut first = rebuild_as(&stack, WRITER, &["--writers", "1", "--batch-rows", "20"]).spawn().unwrap();
    wait_until(&mut first, || number(&stack, "SELECT count(*) FROM pipeline.rebuilt_files") >= 3);
    signal(&first, "-INT");
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("files remain; run the same command again to continue"), "{said}");
    assert_eq!(ended(&output)["rows"].as_i64(), Some(rows(&stack)), "the summary counts the loaded rows");
}

/// Starts a rebuild of a lake whose events are all in one file.
fn rebuild_of_one_file(stack: &Stack) -> Child {
    let mut command = generator(stack);
    command.args(["--count", "100", "--event-rate", "100/min", "--run-id", "single", "--from", "2026-11-22T09:00:00Z"]);
    succeed(command);
    rebuild_as(stack, WRITER, &["--writers", "1"]).spawn().unwrap()
}

/// Asserts that a rebuild that was asked to stop counts the file as left and is not finished.
fn assert_left(stack: &Stack, rebuild: Child) {
    let output = rebuild.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 file remains; run the same command again to continue"), "{said}");
    let end = ended(&output);
    assert_eq!((end["files"].as_i64(), end["files_left"].as_i64()), (Some(0), Some(1)), "{end}");
    assert_eq!(rows(stack), 0);
    assert_eq!(number(stack, "SELECT count(*) FROM pipeline.rebuilds WHERE finished_at IS NOT NULL"), 0);
}

#[test]
fn the_last_file_is_left_if_the_end_comes_while_it_is_retried() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    // One session suffices to start, but leaves no connection for the writer.
    execute(&stack, "ALTER ROLE event_writer CONNECTION LIMIT 1");
    let mut child = rebuild_of_one_file(&stack);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("postgres retry") {
        assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signal(&child, "-TERM");
    log.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("1 file remains; run the same command again to continue"), "{said}");
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.rebuilds WHERE finished_at IS NOT NULL"), 0);
    execute(&stack, "ALTER ROLE event_writer CONNECTION LIMIT -1");
    assert_eq!(rebuild(&stack, &[])["rows"], 100);
}

#[test]
fn the_last_file_is_left_if_the_end_comes_while_it_waits_for_a_lock() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    let runtime = crate::support::runtime();
    let other = runtime.block_on(crate::support::connect_to(&stack.database_url())).unwrap();
    runtime.block_on(other.batch_execute("BEGIN; LOCK TABLE staging.product_events_raw IN SHARE MODE")).unwrap();
    let mut child = rebuild_of_one_file(&stack);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_until(&mut child, || number(&stack, waiting) > 0);
    signal(&child, "-TERM");
    let asked = Instant::now();
    assert_left(&stack, child);
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    drop(other);
    drop(runtime);
    assert_eq!(rebuild(&stack, &[])["rows"], 100);
}

#[test]
fn rows_refused_before_an_interruption_are_reported_after_it() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "twice", &["--from", "2026-11-22T09:30:00Z"]);
    migrate(&stack);
    let of_first_file = "ALTER TABLE staging.product_events_raw ADD CONSTRAINT none_at_first
        CHECK (event_timestamp >= '2026-11-22 09:30:01Z')";
    execute(&stack, of_first_file);
    let mut first = rebuild_as(&stack, WRITER, &["--writers", "1", "--batch-rows", "20"]).spawn().unwrap();
    wait_until(&mut first, || number(&stack, "SELECT count(*) FROM pipeline.rebuilt_files") >= 3);
    signal(&first, "-INT");
    let output = first.wait_with_output().unwrap();
    let refused = ended(&output)["refused"].as_i64().unwrap();
    assert!(refused > 0, "{output:?}");
    let said = fail_of(rebuild_as(&stack, WRITER, &[]));
    assert!(said.contains("none_at_first"), "{said}");
    assert_eq!(rows(&stack), 30_000 - refused);
}

#[test]
fn what_postgresql_or_the_rules_refuse_is_told_and_the_rest_goes_in() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "refused", &["--seed", "7", "--from", "2026-11-22T09:30:00Z"]);
    migrate(&stack);
    execute(&stack, "ALTER TABLE staging.product_events_raw ADD CONSTRAINT no_seventh CHECK (user_id <> 7)");
    let said = fail_of(rebuild_as(&stack, WRITER, &[]));
    assert!(said.contains("rows were refused, first row ") && said.contains("no_seventh"), "{said}");
    assert!(rows(&stack) > 29_000);
    execute(&stack, "ALTER TABLE staging.product_events_raw DROP CONSTRAINT no_seventh");
    rebuild(&stack, &[]);
    assert_eq!(rows(&stack), 30_000);

    // Retention has dropped the day.
    execute(&stack, "TRUNCATE staging.product_events_raw");
    succeed(program(&stack, OWNER, &["retention", "--keep", "1d"]));
    let gone = rebuild(&stack, &[]);
    assert_eq!((gone["expired"].as_i64(), gone["rows"].as_i64()), (Some(30_000), Some(0)));
}

/// Errors have the same outcome as in a consumer, and the message is PostgreSQL's own.
#[test]
fn errors_of_rows_and_of_the_table_are_told_apart() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "errors", &["--from", "2026-11-22T09:30:00Z"]);
    migrate(&stack);
    let table = "staging.product_events_raw";
    let trigger = |body: &str| {
        execute(
            &stack,
            &format!(
                "CREATE OR REPLACE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
                 DROP TRIGGER IF EXISTS f ON {table};
                 CREATE TRIGGER f BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.f()"
            ),
        );
    };
    execute(&stack, &format!("REVOKE INSERT ON {table} FROM pipeline_writer"));
    let said = fail_of(rebuild_as(&stack, WRITER, &[]));
    assert!(said.contains("[42501]") && said.contains("permission denied") && rows(&stack) == 0, "{said}");
    execute(&stack, &format!("GRANT INSERT ON {table} TO pipeline_writer"));

    for (state, body) in [
        ("U0001", "IF NEW.user_id < 20 THEN RAISE EXCEPTION 'not him' USING ERRCODE = 'U0001'; END IF;"),
        ("22012", "PERFORM 1 / (CASE WHEN NEW.user_id < 20 THEN 0 ELSE 1 END);"),
        ("40001", "IF NEW.user_id < 20 THEN RAISE EXCEPTION 'not him' USING ERRCODE = '40001'; END IF;"),
    ] {
        trigger(body);
        let refused = rebuild_as(&stack, WRITER, &["--from", "2026-11-22T10", "--to", "2026-11-22T11"]);
        let said = fail_of(refused);
        assert!(said.contains("rows were refused") && said.contains(state), "{said}");
        let low = format!("SELECT count(*) FROM {table} WHERE user_id < 20");
        assert!(number(&stack, &low) == 0 && rows(&stack) > 10_000, "{state}");
        execute(&stack, &format!("TRUNCATE {table}"));
    }
    trigger("IF NEW.user_id < 20 THEN RETURN NULL; END IF;");
    let end = rebuild(&stack, &[]);
    let suppressed = end["suppressed"].as_i64().unwrap();
    assert!(suppressed > 0, "{end}");
    assert_eq!((end["rows"].as_i64(), rows(&stack)), (Some(30_000 - suppressed), 30_000 - suppressed));
}

#[test]
fn beside_a_consumer() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "beside", &[]);
    let mut consumer = crate::support::consumer(&stack);
    consumer.args(["--until-caught-up", "--batch-rows", "500"]);
    let consumer = consumer.spawn().unwrap();
    let end = rebuild(&stack, &["--batch-rows", "500"]);
    assert!(consumer.wait_with_output().unwrap().status.success());
    assert_eq!(end["rows"].as_i64().unwrap() + end["duplicates"].as_i64().unwrap(), 30_000);
    let report = verify_with(&stack, "beside", &Terms::for_group(GROUP).with_rows_from_elsewhere());
    assert!(report.holds(), "{report}");
}

#[test]
fn wrong_flags_and_an_empty_lake() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    for (flags, part) in [
        (&["--from", "2026-11-22T10:30:00Z"][..], "expected a full hour"),
        (&["--to", "yesterday"], "2026-11-22T10"),
        (&["--from", "2026-11-22", "--to", "2026-11-22"], "--from must be earlier than --to"),
        (&["--lake", "http://bucket"], "--lake"),
    ] {
        let said = fail(&stack, WRITER, &[&["rebuild"], flags].concat(), 2);
        assert!(said.contains(part), "{said}");
    }
    assert!(fail_of(rebuild_as(&stack, WRITER, &[])).contains("no Parquet files under raw/"));
}
