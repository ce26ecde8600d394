//! Each finding of the doctor, with dependencies that really have the fault.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::support::records::{Record, days_ago, event, now, produce};
use crate::support::{OWNER, READER, WRITER, catch_up, execute, execute_as, migrate, number, program, succeed};
use local_stack::Stack;
use serde_json::Value;

fn command(stack: &Stack, user: &str, more: &[&str]) -> Command {
    let servers = stack.bootstrap_servers();
    let mut command = program(stack, user, &["doctor", "--bootstrap-servers", &servers]);
    command.envs(stack.s3().variables());
    command.args(more);
    command
}

/// Returns the findings of a command as `severity: check`, except `good` ones, and its whole output as text.
fn findings(mut command: Command) -> (Vec<String>, String) {
    let output = command.arg("--json").output().unwrap();
    let lines: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = lines.as_array().unwrap();
    let wrong = lines.iter().filter(|line| line["severity"] != "good");
    let found: Vec<String> = wrong.map(|line| format!("{}: {}", text(line, "severity"), text(line, "check"))).collect();
    let bad = found.iter().any(|one| one.starts_with("bad"));
    assert_eq!(output.status.code(), Some(if bad { 3 } else { 0 }), "{lines:?}");
    let without_fix = lines.iter().find(|line| line["severity"] != "good" && line["fix"].is_null());
    assert_eq!(without_fix, None, "each finding has a fix");
    (found, lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

struct Patient(Stack);

impl Patient {
    /// Returns dependencies without any fault.
    fn well() -> Self {
        let stack = Stack::ephemeral().unwrap();
        migrate(&stack);
        catch_up(&stack, &[]);
        Self(stack)
    }

    fn has(&self, user: &str, expected: &[&str], word: &str) {
        let (found, text) = findings(command(&self.0, user, &["--lake", &self.0.lake_url()]));
        assert_eq!(found, expected, "{text}");
        assert!(text.contains(word), "no {word:?} in {text}");
    }

    fn configure_topic(&self, setting: &str) {
        let servers = self.0.bootstrap_servers();
        let arguments =
            ["--bootstrap-server", &servers, "--alter", "--topic", "product-events", "--add-config", setting];
        succeed(self.0.kafka.tool("kafka.admin.ConfigCommand", &arguments));
    }
}

#[test]
fn all_is_well_and_then_the_topic_is_not() {
    let patient = Patient::well();
    patient.has(WRITER, &[], "honored");
    let output = succeed(command(&patient.0, WRITER, &["--no-lake"]));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.lines().all(|line| line.starts_with("ok   ")) && shown.lines().count() >= 15, "{shown}");

    patient.configure_topic(
        "cleanup.policy=compact,max.message.bytes=2000,message.timestamp.type=LogAppendTime,retention.ms=3600000",
    );
    patient.has(
        WRITER,
        &[
            "bad: cleanup.policy",
            "warning: max.message.bytes",
            "warning: message.timestamp.type",
            "warning: retention.ms",
        ],
        "--add-config cleanup.policy=delete",
    );
}

#[test]
fn the_warehouse() {
    let patient = Patient::well();
    let stack = &patient.0;
    patient.has(READER, &["bad: privileges"], "INSERT on staging.product_events_raw");
    execute(stack, "CREATE ROLE stranger LOGIN PASSWORD 'stranger'");
    patient.has("stranger", &["bad: migrations"], "event_pipeline_schema_history");

    execute(
        stack,
        &format!("ALTER ROLE {WRITER} SET statement_timeout = '10s'; ALTER ROLE {WRITER} CONNECTION LIMIT 3"),
    );
    patient.has(WRITER, &["warning: statement_timeout", "bad: free connections"], "a run needs 3");
    execute(stack, &format!("ALTER ROLE {WRITER} RESET ALL; ALTER ROLE {WRITER} CONNECTION LIMIT -1"));
    execute(stack, &format!("ALTER ROLE {WRITER} SET default_transaction_read_only = on"));
    patient.has(WRITER, &["bad: write access"], "read-write");
    execute(stack, &format!("ALTER ROLE {WRITER} RESET ALL"));

    execute(stack, "SELECT pipeline.ensure_partition('2026-11-22')");
    execute(stack, "ALTER TABLE staging.product_events_raw_20261122 DROP CONSTRAINT IF EXISTS none");
    let index = "DO $$ BEGIN EXECUTE (SELECT format('DROP INDEX staging.%I', indexrelid::regclass::name)
        FROM pg_index WHERE indrelid = 'staging.product_events_raw_20261122'::regclass AND indisunique); END $$";
    let index = index.replace("indexrelid::regclass::name", "(SELECT relname FROM pg_class WHERE oid = indexrelid)");
    execute(stack, &index);
    patient.has(WRITER, &["bad: table partitions"], "duplicate rows");
    execute(stack, "DROP TABLE staging.product_events_raw_20261122");

    for setting in ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"] {
        execute(stack, setting);
    }
    let (found, _) = loop {
        // The server applies the reloaded setting with a delay.
        let (found, text) = findings(command(stack, WRITER, &["--no-lake"]));
        if !found.is_empty() {
            break (found, text);
        }
    };
    assert_eq!(found, ["warning: fsync and full_page_writes"]);
    for setting in ["ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()"] {
        execute(stack, setting);
    }
    execute(stack, "DELETE FROM public.event_pipeline_schema_history WHERE version = 9");
    let (found, text) = findings(command(stack, OWNER, &["--no-lake"]));
    assert!(found.contains(&"bad: migrations".to_owned()) && text.contains("V009__rebuilds"), "{text}");
}

/// Changes of the table that stop a run at the next event, or the day after.
#[test]
fn the_table_as_its_owner_changed_it() {
    let patient = Patient::well();
    let stack = &patient.0;
    // Tomorrow's partition, which the first run has created, would hide the obstacles.
    let leaf = format!("staging.product_events_raw_{}", days_ago(-1).hour().date().replace('-', ""));
    execute(stack, &format!("DROP TABLE {leaf}"));
    let table = "staging.product_events_raw";
    let row = format!(
        "INSERT INTO {table} VALUES (gen_random_uuid(), now() + interval '1 day', 'rfq_sent', 1, 2, 3, 'a', 'b')"
    );
    let rest = format!("CREATE TABLE staging.rest PARTITION OF {table} DEFAULT");
    let cases = [
        (
            format!("CREATE VIEW {leaf} AS SELECT 1 AS one"),
            format!("DROP VIEW {leaf}"),
            &["bad: next table partitions"][..],
            "a view of that name",
        ),
        (
            format!("{rest}; {row}"),
            "DROP TABLE staging.rest".to_owned(),
            &["warning: DEFAULT partition", "bad: next table partitions"],
            "rows of that day are in the DEFAULT partition",
        ),
        (
            format!("ALTER TABLE {table} RENAME category TO kind"),
            format!("ALTER TABLE {table} RENAME kind TO category"),
            &["bad: table columns"],
            "column category is missing",
        ),
        (
            format!("ALTER TABLE {table} ADD reference text NOT NULL"),
            format!("ALTER TABLE {table} DROP reference"),
            &["bad: sample row"],
            "null value in column",
        ),
        (
            format!("ALTER TABLE {table} ADD CONSTRAINT big CHECK (user_id > 7)"),
            format!("ALTER TABLE {table} DROP CONSTRAINT big"),
            &["warning: sample row"],
            "would become a dead letter",
        ),
        (
            "ALTER TABLE pipeline.consumer_offsets RENAME fingerprint TO print".to_owned(),
            "ALTER TABLE pipeline.consumer_offsets RENAME print TO fingerprint".to_owned(),
            &["bad: statements"],
            "fingerprint",
        ),
        (
            format!("DROP VIEW staging.product_events; ALTER TABLE {table} ALTER user_id TYPE bigint"),
            format!("ALTER TABLE {table} ALTER user_id TYPE integer"),
            &["bad: table columns"],
            "column user_id has the type bigint, not integer",
        ),
    ];
    for (change, undo, expected, word) in cases {
        execute_as(stack, OWNER, &change).unwrap();
        patient.has(WRITER, expected, word);
        execute_as(stack, OWNER, &undo).unwrap();
        patient.has(WRITER, &[], "inserted, and rolled back");
    }
    assert_eq!(number(stack, &format!("SELECT count(*) FROM {table}")), 0, "the rehearsal leaves no rows");
    assert_eq!(number(stack, &format!("SELECT count(to_regclass('{leaf}'))")), 0, "and no table partition");
}

#[test]
fn what_is_away_or_was_taken() {
    let mut patient = Patient::well();
    produce(&patient.0, &[1, 2, 3].map(|number| Record::of(0, event(number, now(), "tools"))));
    let records = patient.0.kafka.tool("org.apache.kafka.tools.DeleteRecordsCommand", &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let all = r#"{"partitions":[{"topic":"product-events","partition":0,"offset":2}],"version":1}"#;
    std::fs::write(file.path(), all).unwrap();
    let mut records = records;
    records.args(["--bootstrap-server", &patient.0.bootstrap_servers(), "--offset-json-file"]).arg(file.path());
    succeed(records);
    patient.has(WRITER, &["bad: unread records"], "retention deleted 2");

    let (found, text) = findings(command(&patient.0, WRITER, &["--no-lake", "--topic", "absent"]));
    assert_eq!(found, ["warning: topic"], "{text}");
    let (found, _) = findings(command(&patient.0, WRITER, &["--lake", "s3://no-such-bucket"]));
    assert!(found.contains(&"bad: list files".to_owned()), "{found:?}");
    let mut wrong = command(&patient.0, WRITER, &["--lake", &patient.0.lake_url()]);
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let (found, text) = findings(wrong);
    assert!(found.contains(&"bad: list files".to_owned()) && text.contains("rejected the credentials"), "{text}");

    let (found, text) = findings(command(&patient.0, WRITER, &["--no-lake", "-X", "security.protocol=SSL"]));
    assert!(found.contains(&"bad: brokers".to_owned()) && text.contains("security.protocol"), "{text}");

    patient.0.kafka.kill().unwrap();
    patient.0.postgres.kill().unwrap();
    let (found, text) = findings(command(&patient.0, WRITER, &["--no-lake"]));
    assert_eq!(found, ["bad: brokers", "bad: connection"], "{text}");
}

/// Starts a store that returns the same status and body for each request method, indefinitely.
fn store(answer: fn(&str) -> (&'static str, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().for_each(|client| reply(client.unwrap(), answer)));
    address
}

fn reply(mut client: TcpStream, answer: fn(&str) -> (&'static str, &'static str)) {
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let (status, body) = answer(request.split(' ').next().unwrap());
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    client.write_all((head + body).as_bytes()).unwrap();
}

fn findings_of_lake(store: &str) -> (Vec<String>, String) {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    catch_up(&stack, &[]);
    let mut command = command(&stack, WRITER, &["--lake", "s3://lake"]);
    command.env("AWS_ENDPOINT_URL_S3", store);
    findings(command)
}

/// SeaweedFS accepts any date, so this reply imitates that of Amazon S3.
#[test]
fn a_clock_that_is_far_from_the_store_s() {
    let skewed = |_: &str| {
        let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the \
            current time is too large.</Message></Error>";
        ("403 Forbidden", body)
    };
    let (found, text) = findings_of_lake(&store(skewed));
    assert_eq!(found, ["bad: list files"], "{text}");
    assert!(text.contains("RequestTimeTooSkewed") && text.contains("timedatectl"), "{text}");
}

#[test]
fn a_lake_that_may_only_be_read_is_enough_for_a_consumer() {
    let read_only = |method: &str| match method {
        "GET" => (
            "200 OK",
            "<ListBucketResult><Name>lake</Name><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>false\
             </IsTruncated></ListBucketResult>",
        ),
        "HEAD" => ("200 OK", ""),
        _ => ("403 Forbidden", "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"),
    };
    let (found, text) = findings_of_lake(&store(read_only));
    assert_eq!(found, ["warning: write a file"], "{text}");
    assert!(text.contains("grant s3:PutObject to event-generator"), "{text}");
}
