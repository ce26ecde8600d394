//! Refinements concurrent with writers and with each other.

use std::time::Duration;

use local_stack::Stack;

use super::{differences, insert, refine_as_of, session};
use crate::support::{WRITER, signal, url_of};
use crate::support::{
    catch_up, connect_to, consumer, execute, execute_as, migrate, number, runtime, sender, succeed, wait_until,
};

const NOON: &str = "2026-11-22T12:00:00Z";

fn prepared() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    execute_as(&stack, WRITER, "SELECT pipeline.ensure_partition('2026-11-22')").unwrap();
    stack
}

/// The first refinement sees neither the row nor its note, although both were written before it began.
#[test]
fn what_commits_after_a_refinement_is_not_lost() {
    let stack = prepared();
    runtime().block_on(async {
        let mut client = session(&stack).await;
        let writer = connect_to(&url_of(&stack, WRITER)).await.unwrap();
        writer.batch_execute(&format!("BEGIN; {}", insert(NOON, "search_performed", 1, 1, "tools"))).await.unwrap();
        let other = connect_to(&url_of(&stack, WRITER)).await.unwrap();
        other.batch_execute(&insert(NOON, "product_viewed", 2, 1, "tools")).await.unwrap();
        let first = refine_as_of(&mut client, NOON).await;
        assert_eq!((first.hours_remade, first.users_changed), (1, 1));
        writer.batch_execute("COMMIT").await.unwrap();
        assert_eq!(differences(&client, NOON).await.len(), 3, "user 1 is lacking, and account 1 has changed");
        let second = refine_as_of(&mut client, NOON).await;
        assert_eq!((second.hours_remade, second.users_changed), (1, 1));
        assert_eq!(differences(&client, NOON).await, Vec::<String>::new());
        assert_eq!(refine_as_of(&mut client, NOON).await.hours_remade, 0);
    });
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.touched_hours"), 0);
}

/// The second refinement takes its snapshot after the wait, so it sees the rows committed before that.
#[test]
fn a_second_refinement_waits_and_sees_what_came_meanwhile() {
    let stack = prepared();
    runtime().block_on(async {
        let mut client = session(&stack).await;
        let first = session(&stack).await;
        first.batch_execute("SELECT pg_advisory_lock(hashtextextended('event-pipeline: refine', 0))").await.unwrap();
        let meanwhile = async {
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            while first.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            first.batch_execute(&insert(NOON, "search_performed", 1, 1, "tools")).await.unwrap();
            first.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
        };
        let limit = Duration::from_mins(1);
        let both = async { tokio::join!(refine_as_of(&mut client, NOON), meanwhile) };
        let (refined, ()) = tokio::time::timeout(limit, both).await.unwrap();
        assert_eq!(refined.hours_remade, 1);
        assert_eq!(differences(&client, NOON).await, Vec::<String>::new());

        first.batch_execute("SELECT pg_advisory_lock(hashtextextended('event-pipeline: refine', 0))").await.unwrap();
        client.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
        let refused = kafka_consumer::refine(&mut client, kafka_consumer::Request::default()).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("another refinement has been running"), "{refused}");
    });
}

#[test]
fn beside_a_consumer() {
    let stack = Stack::ephemeral().unwrap();
    let mut made = sender(&stack, "max");
    made.args(["--no-lake", "--count", "60000", "--event-rate", "20000/day", "--seed", "7", "--run-id", "beside"]);
    made.args(["--fault", "duplicate=1%"]);
    succeed(made);
    catch_up(&stack, &[]);
    let as_of = crate::support::query(
        &stack,
        "SELECT to_char(max(event_timestamp) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM staging.product_events_raw",
    );
    let as_of: String = as_of[0].get(0);
    // Repeats the load from an empty table, with refinements running all the time.
    execute(
        &stack,
        "TRUNCATE staging.product_events_raw; DELETE FROM pipeline.touched_hours; DELETE FROM pipeline.consumer_offsets",
    );
    let mut child = consumer(&stack);
    child.args(["--batch-rows", "200"]);
    let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    let rounds = runtime().block_on(async {
        let mut client = session(&stack).await;
        let done = "SELECT coalesce(sum(rows_inserted), 0)::bigint FROM pipeline.consumer_offsets";
        let mut rounds = 0;
        while client.query_one(done, &[]).await.unwrap().get::<_, i64>(0) < 60_000 {
            assert!(child.try_wait().unwrap().is_none(), "the consumer has ended");
            rounds += u32::from(refine_as_of(&mut client, &as_of).await.hours_remade > 0);
        }
        rounds
    });
    wait_until(&mut child, || {
        number(&stack, "SELECT sum(rows_inserted)::bigint FROM pipeline.consumer_offsets") == 60_000
    });
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    assert!(rounds > 2, "only {rounds} refinements had something to do");
    runtime().block_on(async {
        let mut client = session(&stack).await;
        refine_as_of(&mut client, &as_of).await;
        assert_eq!(differences(&client, &as_of).await, Vec::<String>::new());
        let users: i64 = client.query_one("SELECT count(*) FROM refined.user_features", &[]).await.unwrap().get(0);
        assert!(users > 900, "{users}");
    });
}
