//! The `refine` command: privileges, output, and repetition with `--every`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use local_stack::Stack;
use serde_json::Value;

use super::{differences, insert, session};
use crate::support::{
    OWNER, READER, WRITER, connect_to, execute, execute_as, fail, migrate, number, printed, printed_json, program,
    runtime, signal, succeed, url_of, wait_until,
};

const NOON: &str = "2026-11-22T12:00:00Z";

fn prepared() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    for day in ["2026-11-14", "2026-11-21", "2026-11-22"] {
        execute_as(&stack, WRITER, &format!("SELECT pipeline.ensure_partition('{day}')")).unwrap();
    }
    let rows = [
        insert("2026-11-22T11:59:00Z", "search_performed", 1, 1, "tools"),
        insert("2026-11-22T11:59:30Z", "recommendation_clicked", 1, 1, "tools"),
        insert("2026-11-21T11:00:00Z", "product_viewed", 2, 1, "tools"),
        insert("2026-11-14T11:00:00Z", "product_viewed", 3, 2, "tools"),
        insert("2026-11-22T12:00:00.000001Z", "search_performed", 4, 3, "tools"),
    ];
    execute_as(&stack, WRITER, &rows.concat()).unwrap();
    stack
}

#[test]
fn what_it_says_and_who_may() {
    let stack = prepared();
    let said = fail(&stack, READER, &["refine"], 1);
    assert!(said.contains("cannot refine: ") && said.contains("pipeline_writer"), "{said}");
    let done = printed_json(&stack, &["refine", "--as-of", "2026-11-22T14:00:00+02:00", "--json"]);
    assert_eq!(done["as_of"], "2026-11-22T12:00:00.000000Z");
    assert_eq!(
        (&done["hours_remade"], &done["users_changed"], &done["accounts_changed"]),
        (&4.into(), &3.into(), &2.into())
    );
    let figures = "SELECT string_agg(format('%s:%s:%s:%s', user_id, searches_last_24h, clicks_last_24h,
        coalesce(ctr_last_24h::text, '-')), ' ' ORDER BY user_id) FROM refined.user_features";
    let figures: String = crate::support::query(&stack, figures)[0].get(0);
    assert_eq!(figures, "1:1:1:1 2:0:0:- 3:0:0:-", "old features are removed, and user 4 has no events yet");

    let said = printed(&stack, &["refine", "--as-of", NOON]);
    assert!(said.starts_with("refined as of 2026-11-22T12:00:00.000000Z in "), "{said}");
    assert!(said.contains("hours recomputed 0, users changed 0/0, accounts changed 0/0"), "{said}");
    assert!(said.lines().all(|line| line.len() <= 80), "{said}");
    for (flags, part) in [
        (&["--as-of", "noon"][..], "--as-of"),
        (&["--every", "10ms"], "use 1s to"),
        (&["--every", "5m", "--as-of", NOON], "cannot be used with"),
    ] {
        let said = fail(&stack, WRITER, &[&["refine"], flags].concat(), 2);
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.refinements"), 2);
}

#[test]
fn what_nobody_noted_is_found_when_all_is_made_anew() {
    let stack = prepared();
    printed(&stack, &["refine", "--as-of", NOON]);
    execute(
        &stack,
        "DELETE FROM staging.product_events_raw WHERE user_id = 1; INSERT INTO refined.user_features VALUES (77, 1, 1, 1, now());
         DELETE FROM refined.account_features",
    );
    printed(&stack, &["refine", "--as-of", NOON]);
    let wrong = || runtime().block_on(async { differences(&session(&stack).await, NOON).await });
    assert!(wrong().len() >= 3, "{:?}", wrong());
    let said = printed(&stack, &["refine", "--as-of", NOON, "--all"]);
    assert!(said.contains("hours recomputed 4,"), "{said}");
    assert_eq!(wrong(), Vec::<String>::new());
    // An owner may refine, too, even without the writer's role.
    succeed(program(&stack, OWNER, &["refine"]));
}

#[test]
fn again_and_again_until_told_to_end() {
    let stack = prepared();
    let mut child = program(&stack, WRITER, &["refine", "--every", "1s", "--json"]);
    let mut child = child.stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = move || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["hours_remade"], 4);
    assert_eq!(next()["hours_remade"], 0);
    execute_as(&stack, WRITER, &insert("2026-11-22T10:00:00Z", "search_performed", 9, 1, "tools")).unwrap();
    while next()["hours_remade"] != 1 {}
    // A session lost in the middle of a refinement costs one round.
    let runtime = runtime();
    let other = runtime.block_on(connect_to(&url_of(&stack, "admin"))).unwrap();
    runtime.block_on(other.batch_execute("BEGIN; LOCK TABLE refined.user_features")).unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'kafka-consumer refine' AND wait_event_type = 'Lock'";
    wait_until(&mut child, || number(&stack, waiting) == 1);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'kafka-consumer refine'";
    assert_eq!(number(&stack, end), 1);
    runtime.block_on(other.batch_execute("ROLLBACK")).unwrap();
    execute_as(&stack, WRITER, &insert("2026-11-22T09:00:00Z", "search_performed", 9, 1, "tools")).unwrap();
    while next()["hours_remade"] != 1 {}
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    assert_eq!(number(&stack, "SELECT count(*) FROM refined.user_features"), 5);
}

#[test]
fn what_retention_takes_is_no_longer_in_the_features() {
    let stack = prepared();
    printed(&stack, &["refine", "--as-of", NOON]);
    let users = || number(&stack, "SELECT count(*) FROM refined.user_features");
    assert_eq!(users(), 3);
    let keep = format!("{}d", days_since("2026-11-20T00:00:00Z"));
    succeed(program(&stack, OWNER, &["retention", "--keep", &keep]));
    let done = printed_json(&stack, &["refine", "--as-of", NOON, "--json"]);
    assert_eq!((&done["hours_remade"], &done["users_changed"]), (&1.into(), &1.into()));
    assert_eq!(users(), 2);
    assert_eq!(number(&stack, "SELECT count(*) FROM refined.user_hours"), 3);
    runtime().block_on(async {
        assert_eq!(differences(&session(&stack).await, NOON).await, Vec::<String>::new());
    });
}

fn days_since(time: &str) -> i64 {
    let time: event_model::Timestamp = time.parse().unwrap();
    (crate::support::records::now().micros() - time.micros()) / 86_400_000_000
}
