//! Runs each check against an intact warehouse and against one damaged so that the check must fail.

use std::fs;
use std::process::{Command, Output};

use crate::support::{
    READER, WRITER, catch_up, connect_to, execute, fail, number, printed, program, runtime, sender, succeed, url_of,
};
use local_stack::Stack;
use serde_json::Value;

/// Starts a stack with three days of events up to now, consumed and refined.
fn prepared() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    let mut made = sender(&stack, "max");
    made.args(["--no-lake", "--count", "60000", "--event-rate", "20000/day", "--seed", "7", "--run-id", "checked"]);
    made.args(["--fault", "duplicate=1%,corrupt=0.2%"]);
    succeed(made);
    catch_up(&stack, &[]);
    printed(&stack, &["refine"]);
    stack
}

fn check(url: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
    command.args(["check", "--json", "--database-url", url]).args(flags).output().unwrap()
}

fn results(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    report["results"].as_array().unwrap().clone()
}

/// Copies a warehouse and returns the URL of the copy.
fn copy(stack: &Stack, name: &str, of: &str) -> String {
    let sql = format!("CREATE DATABASE {name} TEMPLATE {of}");
    runtime().block_on(async {
        let admin = connect_to(&stack.postgres.url_of("postgres")).await.unwrap();
        // Closed sessions linger briefly and block the copy.
        let mut made = admin.batch_execute(&sql).await;
        for _ in 0..600 {
            if made.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            made = admin.batch_execute(&sql).await;
        }
        made.unwrap();
    });
    url_of(stack, WRITER).replace("/warehouse", &format!("/{name}"))
}

const ROW: &str = "INSERT INTO staging.product_events_raw
    SELECT gen_random_uuid(), event_timestamp, 'search_performed', user_id, account_id, product_id, category, experiment_id
    FROM staging.product_events_raw WHERE event_timestamp > now() - interval '10 hours' LIMIT 1";

/// Notes for all hours that may contain that row.
const NOTES: &str = "INSERT INTO pipeline.touched_hours (hour)
    SELECT date_trunc('hour', now()) - i * interval '1 hour' FROM generate_series(0, 10) AS i";

/// Name of the check, damage, and expected exit code.
const DAMAGES: [(&str, &str, i32); 23] = [
    (
        "event_ids_unique",
        "INSERT INTO staging.product_events_raw
         SELECT event_id, event_timestamp - interval '1 day', event_type, user_id, account_id, product_id, category,
                experiment_id
         FROM staging.product_events_raw WHERE event_timestamp > now() - interval '1 day' LIMIT 1",
        3,
    ),
    ("freshness", "DELETE FROM staging.product_events_raw WHERE event_timestamp > now() - interval '2 hours'", 3),
    ("freshness", "DELETE FROM staging.product_events_raw WHERE event_timestamp > now() - interval '50 hours'", 3),
    (
        "volume_like_yesterday",
        "DELETE FROM staging.product_events_raw
         WHERE event_timestamp >= date_trunc('hour', now()) - interval '3 hours'
           AND event_timestamp < date_trunc('hour', now()) - interval '135 minutes'",
        0,
    ),
    (
        "volume_like_yesterday",
        "INSERT INTO staging.product_events_raw
         SELECT gen_random_uuid(), date_trunc('hour', now()) - interval '1 second', 'rfq_sent', 1, 1, 1, 'tools', 'exp_1'
         FROM generate_series(1, 1500)",
        0,
    ),
    ("event_types_known", "UPDATE staging.product_events_raw SET event_type = 'odd' WHERE user_id = 17", 3),
    ("values_in_range", "UPDATE staging.product_events_raw SET category = E'a\\x07' WHERE user_id = 17", 3),
    ("values_in_range", "UPDATE staging.product_events_raw SET experiment_id = '' WHERE user_id = 17", 3),
    ("values_in_range", "UPDATE staging.product_events_raw SET experiment_id = repeat('é', 65) WHERE user_id = 17", 3),
    ("values_in_range", "UPDATE staging.product_events_raw SET product_id = 0 WHERE user_id = 17", 3),
    (
        "one_account_per_user",
        "UPDATE staging.product_events_raw SET account_id = account_id % 10 + 1
         WHERE event_id = (SELECT event_id FROM staging.product_events_raw WHERE user_id = 17 LIMIT 1)",
        0,
    ),
    ("user_features_in_step", "UPDATE refined.user_features SET clicks_last_24h = clicks_last_24h + 1 WHERE user_id = 17", 3),
    ("user_features_in_step", "DELETE FROM refined.user_features WHERE user_id = 17", 3),
    ("user_features_in_step", "INSERT INTO refined.user_features VALUES (5000, 0, 0, 0, now() - interval '3 days')", 3),
    ("user_features_in_step", "DELETE FROM staging.product_events_raw WHERE user_id = 17", 3),
    (
        "account_features_in_step",
        "UPDATE refined.account_features SET most_viewed_category_7d = 'none' WHERE account_id = 7",
        3,
    ),
    ("account_features_in_step", "DELETE FROM staging.product_events_raw WHERE user_id = 17", 3),
    ("features_fresh", "UPDATE pipeline.refinements SET as_of = as_of - interval '2 hours'", 0),
    (
        "dead_letter_share",
        "INSERT INTO pipeline.dead_letters (consumer_group, topic, topic_incarnation, partition, \"offset\", stage,
             reason_code, reason, group_record)
         SELECT 'kafka-consumer', 'product-events', 1, 0, 1000000 + i, 'validate', 'not_json', 'x', i
         FROM generate_series(1, 700) AS i",
        3,
    ),
    (
        "rows_counted",
        "DELETE FROM staging.product_events_raw WHERE event_id = (SELECT event_id FROM staging.product_events_raw LIMIT 1)",
        3,
    ),
    ("rows_counted", ROW, 3),
    (
        "dead_letters_counted",
        "DELETE FROM pipeline.dead_letters WHERE (partition, \"offset\") IN
             (SELECT partition, \"offset\" FROM pipeline.dead_letters LIMIT 1)",
        3,
    ),
    ("offsets_plausible", "UPDATE pipeline.consumer_offsets SET next_offset = next_offset - 1 WHERE partition = 2", 3),
];

/// Each run draws another seed. Its users are those of the other runs.
#[test]
fn runs_agree_on_the_account_of_each_user() {
    let stack = Stack::ephemeral().unwrap();
    for _ in 0..2 {
        let mut made = sender(&stack, "max");
        made.args(["--no-lake", "--count", "20000"]);
        succeed(made);
    }
    catch_up(&stack, &[]);
    let all = results(&check(&url_of(&stack, WRITER), &[]));
    let accounts = all.iter().find(|one| one["name"] == "one_account_per_user").unwrap();
    assert_eq!(accounts["status"], "pass", "{accounts}");
}

#[test]
fn each_check_finds_its_damage_and_none_finds_fault_with_good_data() {
    let stack = prepared();
    let good = copy(&stack, "good", "warehouse");
    let output = check(&url_of(&stack, WRITER), &[]);
    let all = results(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(all.len(), 13);
    for one in &all {
        assert_eq!(one["status"], "pass", "{one}");
        assert!(DAMAGES.iter().any(|(name, _, _)| one["name"] == *name), "{one} is not tested");
    }
    for (number, (name, damage, code)) in (0..).zip(DAMAGES) {
        let url = copy(&stack, &format!("damaged_{number}"), "good");
        assert_ne!(url, good);
        let as_admin = stack.postgres.url_of(&format!("damaged_{number}"));
        runtime().block_on(async { connect_to(&as_admin).await.unwrap().batch_execute(damage).await.unwrap() });
        let output = check(&url, &["--only", name]);
        let one = &results(&output)[0];
        assert_eq!((&one["name"], &one["status"]), (&(*name).into(), &"fail".into()), "{damage}: {one}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(code == 0 || said.contains(&format!("failed: {name}")), "{said}");
    }
}

#[test]
fn rows_that_a_refinement_did_not_see_are_no_fault_of_the_features() {
    let stack = prepared();
    let in_step = |expected: &str| {
        let output =
            check(&url_of(&stack, WRITER), &["--only", "user_features_in_step", "--only", "account_features_in_step"]);
        for one in results(&output) {
            assert_eq!(one["status"], expected, "{one}");
        }
    };
    in_step("pass");
    let runtime = runtime();
    let writer = runtime.block_on(async {
        let writer = connect_to(&url_of(&stack, WRITER)).await.unwrap();
        writer.batch_execute(&format!("BEGIN; {ROW}; {NOTES}")).await.unwrap();
        writer
    });
    printed(&stack, &["refine"]);
    runtime.block_on(writer.batch_execute("COMMIT")).unwrap();
    in_step("pass");
    printed(&stack, &["refine"]);
    in_step("pass");
    execute(&stack, "DELETE FROM pipeline.refinements");
    in_step("skip");
}

#[test]
fn checks_of_ones_own_and_what_is_kept() {
    let stack = Stack::ephemeral().unwrap();
    crate::support::migrate(&stack);
    // An empty warehouse has nothing to verify and no errors.
    let output = succeed(program(&stack, WRITER, &["check"]));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("event_ids_unique") && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.check_results WHERE status IN ('pass', 'skip')"), 13);

    let folder = tempfile::tempdir().unwrap();
    let folder_name = folder.path().to_str().unwrap();
    let write = |name: &str, severity: &str, sql: &str| {
        let header = format!("-- name: {name}\n-- severity: {severity}\n-- threshold: 3\n-- explanation: Mine.\n");
        fs::write(folder.path().join(format!("{name}.sql")), header + sql).unwrap();
    };
    let mine = ["check", "--checks", folder_name, "--only"];
    write("freshness", "error", "SELECT 4 AS value, 'four' AS detail; -- mine");
    let said = fail(&stack, WRITER, &[&mine[..], &["freshness"]].concat(), 1);
    assert!(said.contains("cannot run checks: freshness"), "a comment after the semicolon: {said}");
    write("freshness", "error", "SELECT 4 AS value, 'four' AS detail -- mine\n;\n");
    let said = fail(&stack, WRITER, &[&mine[..], &["freshness"]].concat(), 3);
    assert!(said.contains("failed: freshness"), "{said}");
    write("writes", "error", "DELETE FROM pipeline.touched_hours RETURNING 1 AS value");
    write("slow", "warning", "SELECT 1 AS value FROM pg_sleep(60)");
    write("gone", "warning", "SELECT 1 AS value FROM no_such_table");
    let said = fail(&stack, WRITER, &[&mine[..], &["writes,slow,gone", "--timeout", "200ms"]].concat(), 1);
    assert!(said.contains("cannot run checks: gone, slow, writes"), "{said}");
    let details =
        "SELECT string_agg(detail, '|' ORDER BY check_name) FROM pipeline.check_results WHERE status = 'broken'
        AND check_name IN ('gone', 'slow')";
    let details: String = crate::support::query(&stack, details)[0].get(0);
    assert!(details.contains("no_such_table") && details.contains("longer than 0.2 s"), "{details}");

    let said = fail(&stack, READER, &["check"], 1);
    assert!(said.contains("cannot store the results") && said.contains("--no-save"), "{said}");
    succeed(program(&stack, READER, &["check", "--no-save"]));
    assert!(fail(&stack, WRITER, &["check", "--only", "nothing"], 2).contains("unknown check nothing"));
    assert!(fail(&stack, WRITER, &["check", "--checks", "/nowhere"], 2).contains("cannot read /nowhere"));
}
