//! Loads of the same topic into a cluster and into one server have the same outcome.

use local_stack::Stack;

use crate::consumer_process::Member;
use crate::poison::event;
use crate::support::{self, execute, number, query};
use crate::test_topic::{holds, make_topic, publish, send};

use super::{ROWS, cluster_or_return, failed_checks, features, refine, text};

/// Offsets, counts and dead letters.
const COUNTS: &str = "SELECT string_agg(format('%s %s %s %s %s %s %s', partition, next_offset, records, rows_inserted,
        duplicates, duplicates_differing, dead_letters), E'\\n' ORDER BY partition) FROM pipeline.consumer_offsets";
const LETTERS: &str = "SELECT string_agg(format('%s %s %s %s', partition, \"offset\", stage, sqlstate), E'\\n'
        ORDER BY partition, \"offset\") FROM pipeline.dead_letters";

/// Loads the same topic into the plain server of the stack.
fn load_plain(stack: &mut Stack) -> String {
    let warehouse = stack.warehouse.take();
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
    let url = stack.database_url();
    stack.warehouse = warehouse;
    url
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn rows_dead_letters_and_features_are_those_of_one_server() {
    let mut cluster = cluster_or_return!("equal");
    let mut made = support::generator(&cluster.stack);
    made.args(["--run-id", "equal", "--count", "200000", "--event-rate", "200000/day", "--accounts", "3000"]);
    made.args(["--users", "20000", "--fault", "invalid=0.5%,corrupt=0.1%,duplicate=1%", "--seed", "20"]);
    support::succeed(made);
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    holds(&cluster.stack, "equal");
    let plain = load_plain(&mut cluster.stack);
    let url = cluster.stack.database_url();
    for sql in [ROWS, COUNTS, LETTERS] {
        assert_eq!(text(&url, sql), text(&plain, sql), "{sql}");
    }

    let as_of = text(
        &url,
        "SELECT to_char(max(event_timestamp) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
        FROM staging.product_events_raw",
    );
    refine(&cluster, &["--as-of", &as_of]);
    let warehouse = cluster.stack.warehouse.take();
    support::printed(&cluster.stack, &["refine", "--as-of", &as_of]);
    cluster.stack.warehouse = warehouse;
    assert_eq!(features(&url), features(&plain));
    assert!(number(&cluster.stack, "SELECT count(*) FROM refined.user_features") > 10_000);

    refine(&cluster, &[]);
    assert_eq!(failed_checks(&cluster), Vec::<String>::new());
    for (table, column, key) in
        [("user_features", "searches_last_24h", "user_id"), ("account_features", "active_users_last_7d", "account_id")]
    {
        let change = |by: &str| {
            let first = format!("{key} = (SELECT min({key}) FROM refined.{table})");
            execute(&cluster.stack, &format!("UPDATE refined.{table} SET {column} = {column} {by} WHERE {first}"));
        };
        change("+ 1");
        let failed = failed_checks(&cluster);
        assert!(failed.len() == 1 && failed[0].contains(&format!("{table}_in_step")), "{failed:?}");
        change("- 1");
    }
    execute(&cluster.stack, "DELETE FROM staging.product_events_raw WHERE user_id = 1");
    let failed = failed_checks(&cluster);
    assert!(failed.iter().any(|one| one.contains("rows_counted")), "{failed:?}");
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn four_writers_do_not_wait_for_each_other_in_a_circle() {
    let cluster = cluster_or_return!("writers");
    publish(&cluster.stack, "writers", 200_000);
    let said =
        Member::of(&cluster.stack, &["--until-caught-up", "--writers", "4", "--batch-rows", "500"]).ended_with(0);
    assert!(said.contains("\"retries\":0") && !said.contains("deadlock"), "{said}");
    holds(&cluster.stack, "writers");
}

/// COPY into a distributed table reports no SQLSTATE.
#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn a_row_that_a_worker_refuses_is_a_dead_letter_with_its_sqlstate() {
    let cluster = cluster_or_return!("refused");
    make_topic(&cluster.stack, 1);
    send(&cluster.stack, 0, [event(1)]);
    Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    execute(
        &cluster.stack,
        "ALTER TABLE staging.product_events_raw ADD CONSTRAINT known CHECK (user_id <> 3 AND user_id <> 1777)",
    );
    send(&cluster.stack, 0, (2..=3_000).map(event));
    let said = Member::of(&cluster.stack, &["--until-caught-up"]).ended_with(0);
    let letters = query(&cluster.stack, "SELECT sqlstate, reason FROM pipeline.dead_letters ORDER BY \"offset\"");
    let letters: Vec<(String, String)> = letters.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(letters.len(), 2, "{letters:?}\n{said}");
    assert!(letters.iter().all(|(state, reason)| state == "23514" && reason.contains("known")), "{letters:?}");
    assert_eq!(number(&cluster.stack, "SELECT count(*) FROM staging.product_events_raw"), 2_998);
}
