//! Error messages of the command line.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{WRITER, consumer, consumer_as, make_users, query, succeed};
use local_stack::{Kafka, Postgres, Stack};

fn run(arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    let output = command.args(arguments).env("KAFKA_CONSUMER_HTTP_ADDR", "off").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn wrong_usage_is_exit_2_and_says_why() {
    let cases: &[(&[&str], &str)] = &[
        (&["--nonsense"], "--nonsense"),
        (&["--batch-rows", "0"], "--batch-rows"),
        (&["--batch-rows", "-1"], "invalid value '-1' for '--batch-rows"),
        (&["retention", "--keep", "-3d"], "invalid value '-3d' for '--keep"),
        (&["dead-letters", "show", "-1", "5"], "invalid value '-1' for '<PARTITION>'"),
        (&["--start", "yesterday"], "RFC 3339"),
        (&["--group-id", ""], "invalid value '' for '--group-id"),
        (&["--group-instance-id", " "], "invalid value ' ' for '--group-instance-id"),
        (&["--topic", ""], "invalid value '' for '--topic"),
        (&["--bootstrap-servers", ""], "invalid value '' for '--bootstrap-servers"),
        (&["--bootstrap-servers", "a:1,"], "an address is empty"),
        (&["-X", "no.such.property=1"], "no.such.property"),
        (&["-X", "session.timeout.ms=soon"], "session.timeout.ms"),
        (&["-X", "enable.auto.commit=true"], "offsets are stored in PostgreSQL"),
        (&["-X", "isolation.level=read_uncommitted"], "aborted"),
        (&["-X", "group.id=x"], "--group-id"),
        (&["--kafka-config", "/no/such/file"], "/no/such/file"),
        (&["--database-url", "mysql://localhost"], "--database-url"),
        (&["--database-url", "postgres://localhost/x?sslmode=maybe"], "sslmode=maybe"),
    ];
    for (arguments, expected) in cases {
        let (output, said) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn nothing_running_is_said_within_ten_seconds() {
    let began = Instant::now();
    let (output, said) = run(&["--bootstrap-servers", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("127.0.0.1:9") && said.contains("local-stack -- up"), "{said}");
    let kafka = Kafka::ephemeral().unwrap();
    let (output, said) = run(&[
        "--bootstrap-servers",
        &kafka.bootstrap_servers(),
        "--database-url",
        "postgres://a:secret@127.0.0.1:9/w",
    ]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("127.0.0.1:9/w") && said.contains("local-stack -- up"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30), "both with a broker's start between them");
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let postgres = Postgres::ephemeral().unwrap();
    let url = postgres.url().replace("admin:admin@", "admin:hunter2@");
    let (output, said) = run(&["migrate", "--database-url", &url]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("password authentication failed") && said.contains("PGPASSWORD") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn scripts_are_applied_once_and_a_changed_one_is_found() {
    let stack = Stack::ephemeral().unwrap();
    make_users(&stack);
    for (user, flag) in [("admin", "--no-migrate"), (WRITER, "--until-caught-up")] {
        let output = consumer_as(&stack, user).arg(flag).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("lacks V001__staging"), "{said}");
    }

    let url = stack.database_url();
    let (first, _) = run(&["migrate", "--database-url", &url]);
    let applied = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success() && applied.contains("staging"), "{applied}");
    let (second, _) = run(&["migrate", "--database-url", &url]);
    assert!(String::from_utf8_lossy(&second.stdout).contains("up to date"));
    let mut checking = consumer(&stack);
    checking.args(["--no-migrate", "--until-caught-up"]);
    succeed(checking);

    query(&stack, "UPDATE event_pipeline_schema_history SET checksum = '1' WHERE version = 2");
    let (changed, said) = run(&["migrate", "--database-url", &url]);
    assert!(changed.status.code() == Some(1) && said.contains("V002__pipeline was changed"), "{said}");
}

#[test]
fn status_shows_every_partition() {
    let stack = Stack::ephemeral().unwrap();
    let mut caught_up = consumer(&stack);
    caught_up.arg("--until-caught-up");
    succeed(caught_up);
    let (output, said) =
        run(&["status", "--bootstrap-servers", &stack.bootstrap_servers(), "--database-url", &stack.database_url()]);
    assert!(output.status.success(), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("next offset") && shown.lines().count() >= 9, "{shown}");
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let url = "postgres://me:hunter2@localhost/w";
    let (output, _) = run(&["--print-config", "--database-url", url, "-X", "sasl.password=hunter3", "--group-id", "g"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    let config: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&config["group_id"], &config["database"]), (&"g".into(), &"localhost:5432/w".into()));
    assert_eq!(config["kafka"]["properties"]["sasl.password"], "***");
    assert_eq!((&config["max_event_age"], &config["memory_limit"]), (&"400d".into(), &"256MiB".into()));
    assert!(!shown.contains("hunter"), "{shown}");
}
