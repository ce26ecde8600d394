//! Outages of Kafka as the log, the page and the probes show them; topics, groups and logins that it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use local_stack::Stack;
use serde_json::Value;

use crate::consumer_process::{Member, Places, rows};
use crate::group::assigned;
use crate::support::watched::Watched;
use crate::support::{WRITER, execute, fail, program, url_of};
use crate::test_topic::{caught_up, ends, make_topic, publish};

fn state(consumer: &Watched) -> Value {
    serde_json::from_str(&consumer.get("/state").1).unwrap()
}

#[test]
fn an_outage_is_logged_once_and_makes_the_lag_unknown() {
    let mut stack = Stack::ephemeral().unwrap();
    publish(&stack, "outage", 2_000);
    let mut consumer = Watched::start(&stack);
    let lag = |consumer: &Watched| state(consumer)["seconds"].as_array().unwrap().last().unwrap()["lag"].clone();
    consumer.wait_until("caught up", |one| one.get("/readyz").0 == 200 && lag(one) == 0);
    assert!(!consumer.said().contains("kafka unavailable"), "{}", consumer.said());
    stack.kafka.kill().unwrap();
    consumer.wait_until("the outage", |one| state(one)["kafka_error"].is_string());
    consumer.wait_until("not ready", |one| one.get("/readyz").0 == 503);
    let (_, reason) = consumer.get("/readyz");
    assert!(reason.contains("kafka unavailable for") && reason.contains("refused"), "{reason}");
    consumer.wait_until("the lag is unknown", |one| lag(one).is_null());
    assert_eq!(consumer.get("/livez").0, 200);
    stack.kafka.restart().unwrap();
    consumer.wait_until("ready again", |one| one.get("/readyz").0 == 200 && lag(one) == 0);
    let said = consumer.said();
    assert_eq!(said.matches("\"kafka unavailable\"").count(), 1, "{said}");
    assert_eq!(said.matches("\"kafka available again\"").count(), 1, "{said}");
    assert!(!said.contains("\"kafka error\""), "{said}");
    consumer.end();
}

#[test]
fn a_mistyped_topic_is_not_created() {
    let stack = Stack::ephemeral().unwrap();
    crate::support::migrate(&stack);
    make_topic(&stack, 3);
    let servers = stack.bootstrap_servers();
    let run = ["run", "--bootstrap-servers", &servers, "--http-addr", "off", "--log-format", "json", "--topic"];
    let said = fail(&stack, WRITER, &[&run[..], &["product-event", "--until-caught-up"]].concat(), 1);
    assert!(said.contains("topic product-event") && said.contains("similar: product-events"), "{said}");
    assert!(said.contains("--create-topic"), "{said}");
    let mut member = Member::start(program(&stack, WRITER, &[&run[..], &["later"]].concat()));
    member.until_said("topic does not exist, waiting for it");
    let list = ["--bootstrap-server", &servers, "--list"];
    let topics = stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &list).output().unwrap();
    let topics = String::from_utf8(topics.stdout).unwrap();
    assert!(topics.contains("product-events") && !topics.contains("later"), "{topics}");
    let create = ["--bootstrap-server", &servers, "--create", "--topic", "later", "--partitions", "2"];
    assert!(stack.kafka.tool("org.apache.kafka.tools.TopicCommand", &create).status().unwrap().success());
    member.until("partitions", |member| assigned(member) == 2);
    member.stop();
    // SIGTERM also ends the wait.
    let mut member = Member::start(program(&stack, WRITER, &[&run[..], &["never"]].concat()));
    member.until_said("topic does not exist, waiting for it");
    member.stop();
}

#[test]
fn a_session_timeout_that_the_broker_refuses_ends_the_run() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "session", 100);
    let short = ["-X", "session.timeout.ms=1000", "-X", "heartbeat.interval.ms=300"];
    let (status, said) = Member::of(&stack, &short).ended(Duration::from_secs(15));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("error: cannot join group kafka-consumer: session.timeout.ms=1000"), "{said}");
    assert!(said.contains("-X session.timeout.ms=N"), "{said}");
    let servers = stack.bootstrap_servers();
    let doctor = [&["doctor", "--no-lake", "--bootstrap-servers", &servers][..], &short[..]].concat();
    let found = program(&stack, WRITER, &doctor).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(3), "{text}");
    assert!(text.contains("run with -X session.timeout.ms=6000"), "{text}");
}

#[test]
fn an_assignment_strategy_that_does_not_fit_ends_the_run() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "strategy", 100);
    let mut first = Member::of(&stack, &[]);
    first.until("partitions", |first| assigned(first) == 6);
    let range = ["-X", "partition.assignment.strategy=range"];
    let second = Member::of(&stack, &range);
    let servers = stack.bootstrap_servers();
    let doctor = [&["doctor", "--no-lake", "--bootstrap-servers", &servers][..], &range[..]].concat();
    let found = program(&stack, WRITER, &doctor).output().unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(3), "{text}");
    assert!(text.contains("-X partition.assignment.strategy=cooperative-sticky"), "{text}");
    let (status, said) = second.ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("do not use the assignment strategy range"), "{said}");
    assert_eq!(said.matches("group refuses this consumer, retrying").count(), 1, "{said}");
    publish(&stack, "more", 100);
    caught_up(&stack, &mut first, Duration::from_secs(20));
    first.stop();
}

#[test]
fn a_full_group_ends_the_run() {
    let mut stack = Stack::ephemeral().unwrap();
    stack.kafka.set_property("group.max.size", "1");
    stack.kafka.kill().unwrap();
    stack.kafka.restart().unwrap();
    publish(&stack, "full", 100);
    let mut first = Member::of(&stack, &[]);
    first.until("partitions", |first| assigned(first) == 6);
    let (status, said) = Member::of(&stack, &[]).ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("it has as many members as the broker allows (group.max.size); stop one"), "{said}");
    assert_eq!(said.matches("group refuses this consumer, retrying").count(), 1, "{said}");
    caught_up(&stack, &mut first, Duration::from_secs(20));
    first.stop();
}

/// Starts a member whose password is in a file, and returns a function that replaces it.
fn with_password_file(stack: &Stack, grace: &str) -> (Member, impl Fn(&str), tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let new = folder.path().join("pgpass.new");
    let put = move |password: &str| {
        fs::write(&new, format!("*:*:*:*:{password}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    put(WRITER);
    let places = Places::of(stack);
    let database = url_of(stack, WRITER).replace(&format!("{WRITER}:{WRITER}@"), &format!("{WRITER}@"));
    let mut command = Places { database, ..places }.consumer();
    command.env("PGPASSFILE", folder.path().join("pgpass")).args(["--login-grace", grace, "--writers", "1"]);
    (Member::start(command), put, folder)
}

fn rotate(stack: &Stack) {
    execute(stack, &format!("ALTER ROLE {WRITER} PASSWORD 'rotated'"));
    execute(stack, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{WRITER}'"));
}

#[test]
fn a_rotated_password_of_postgresql_is_read_again() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "before", 1_000);
    let (mut member, put, _folder) = with_password_file(&stack, "2m");
    member.until("rows", |_| rows(&stack) > 900);
    rotate(&stack);
    publish(&stack, "after", 1_000);
    member.until_said("password authentication failed");
    put("rotated");
    caught_up(&stack, &mut member, Duration::from_secs(20));
    member.stop();
}

#[test]
fn a_login_that_postgresql_refuses_for_long_ends_the_run() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "before", 1_000);
    let (mut member, _put, _folder) = with_password_file(&stack, "3s");
    member.until("rows", |_| rows(&stack) > 900);
    rotate(&stack);
    publish(&stack, "after", 1_000);
    let (status, said) = member.ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("error: cannot log in to PostgreSQL: refused for") && said.contains("28P01"), "{said}");
}

#[test]
fn a_topic_with_fewer_partitions_retires_the_others() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "six", 2_000);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    crate::test_topic::delete_topic(&stack);
    make_topic(&stack, 3);
    publish(&stack, "three", 2_000);
    let servers = stack.bootstrap_servers();
    let set = |to: &[&str]| {
        let set = ["offsets", "set", "--bootstrap-servers", &servers, "--reason", "moved"];
        program(&stack, WRITER, &[&set[..], to].concat()).output().unwrap()
    };
    let refused = set(&["--to-latest"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("or cluster "), "{said}");
    assert!(set(&["--to-latest", "--allow-recreated-topic"]).status.success());
    let show = || crate::support::printed(&stack, &["offsets", "show"]);
    let shown = show();
    assert_eq!(shown.matches("retired ").count(), 3, "{shown}");
    let status = crate::support::printed(&stack, &["status", "--bootstrap-servers", &servers]);
    assert!(status.matches("retired").count() == 3 && !status.contains('?'), "{status}");
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!(crate::consumer_process::offsets(&stack)[..3], ends(&stack));
    assert!(set(&["--to-offset", "0:0"]).status.success());
    let gone = set(&["--to-offset", "5:0"]);
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(gone.status.code() == Some(1) && said.contains("the topic has 3 partitions"), "{said}");
    crate::test_topic::add_partitions(&stack, 4);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!(show().matches("retired ").count(), 2);
}

#[test]
fn a_recreated_topic_is_read_from_a_time() {
    let stack = Stack::ephemeral().unwrap();
    publish(&stack, "former", 500);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    let before = rows(&stack);
    crate::test_topic::delete_topic(&stack);
    publish(&stack, "latter", 500);
    std::thread::sleep(Duration::from_millis(20));
    let time = crate::support::records::now().to_string();
    Member::of(&stack, &["--until-caught-up", "--allow-recreated-topic", "--start", &time]).ended_with(0);
    assert_eq!((rows(&stack), crate::consumer_process::offsets(&stack)), (before, ends(&stack)));
}
