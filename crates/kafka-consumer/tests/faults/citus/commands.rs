//! `retention`, `rebuild`, `reconcile` and `dead-letters replay`.

use crate::consumer_process::Member;
use crate::poison::event;
use crate::support::{OWNER, WRITER, execute, generator, number, printed, program, succeed};
use crate::test_topic::{make_topic, send};

use super::{ROWS, cluster_or_return, refine, table_rows, text};

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn days_are_dropped_and_rebuilt_from_the_lake_and_reconcile_agrees() {
    let cluster = cluster_or_return!("commands");
    let stack = &cluster.stack;
    let mut made = generator(stack);
    made.args(["--run-id", "days", "--count", "60000", "--event-rate", "20000/day", "--accounts", "500"]);
    succeed(made);
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
    let servers = stack.bootstrap_servers();
    let reconcile = || {
        let lake = stack.lake_url();
        let mut command =
            program(stack, WRITER, &["reconcile", "--run", "days", "--lake", &lake, "--bootstrap-servers", &servers]);
        command.envs(stack.s3().variables());
        command
    };
    succeed(reconcile());
    let rows = text(&stack.database_url(), ROWS);
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'staging.product_events_raw'::regclass";
    let before = number(stack, days);

    let gone = "DELETE FROM staging.product_events_raw WHERE account_id % 3 = 0";
    execute(stack, gone);
    assert_eq!(reconcile().output().unwrap().status.code(), Some(3));
    let rebuild = || {
        let mut command = program(stack, WRITER, &["rebuild", "--lake", &stack.lake_url()]);
        command.envs(stack.s3().variables());
        command
    };
    succeed(rebuild());
    assert_eq!(text(&stack.database_url(), ROWS), rows);
    succeed(reconcile());
    refine(&cluster, &[]);

    let planned = String::from_utf8(succeed(program(stack, OWNER, &["retention", "--keep", "1d", "--dry-run"])).stdout);
    let planned = planned.unwrap();
    assert!(planned.contains("would drop") && !planned.contains(", 0 MiB)\nin total"), "{planned}");
    let said = String::from_utf8(succeed(program(stack, OWNER, &["retention", "--keep", "1d"])).stdout).unwrap();
    assert!(said.contains("dropped staging.product_events_raw_"), "{said}");
    let left = number(stack, days);
    assert!(left < before, "{before} before, {left} left");
    let shards = "SELECT coalesce(sum(result::bigint), 0)::bigint FROM run_command_on_workers(
        'SELECT count(*) FROM pg_class WHERE relkind = ''r'' AND relname ~ ''^product_events_raw_[0-9]{8}_''')";
    assert_eq!(number(stack, shards), 8 * left, "the shards of dropped days are dropped");
    // Days below the floor are not loaded again.
    let kept = table_rows(&cluster);
    succeed(rebuild());
    assert_eq!(table_rows(&cluster), kept);
    refine(&cluster, &[]);
}

#[test]
#[ignore = "needs CITUS_URL and CITUS_WORKERS"]
fn dead_letters_are_replayed() {
    let cluster = cluster_or_return!("replay");
    let stack = &cluster.stack;
    make_topic(stack, 1);
    send(stack, 0, [event(1)]);
    Member::of(stack, &["--until-caught-up"]).ended_with(0);
    execute(stack, "ALTER TABLE staging.product_events_raw ADD CONSTRAINT no_threes CHECK (user_id % 10 <> 3)");
    send(stack, 0, (2..=50).map(event));
    Member::of(stack, &["--until-caught-up", "--allow-dead-letters", "50"]).ended_with(0);
    assert_eq!(number(stack, "SELECT count(*) FROM pipeline.dead_letters"), 5);
    execute(stack, "ALTER TABLE staging.product_events_raw DROP CONSTRAINT no_threes");
    printed(stack, &["dead-letters", "replay"]);
    assert_eq!(number(stack, "SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NULL"), 0);
    assert_eq!(table_rows(&cluster), 50);
    printed(stack, &["check", "--only", "rows_counted,dead_letters_counted"]);
}
