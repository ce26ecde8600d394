//! Table partitions beside the additions of an owner: obstacles are named a day ahead, while today's events are inserted.

use local_stack::Stack;

use crate::consumer_process::{Member, offsets, rows};
use crate::poison::event;
use crate::postgres::execute;
use crate::support::records::days_ago;
use crate::support::watched::Watched;
use crate::support::{OWNER, WRITER, execute_as, migrate, number, printed, program, query, succeed};
use crate::test_topic::{ends, make_topic, send};

const TABLE: &str = "SELECT count(*) FROM staging.product_events_raw";

fn migrated() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    stack
}

/// Asks for the table partition of a day as a writer does. Returns the result, or the error.
fn ensure(stack: &Stack, day: &str) -> String {
    let asked = format!("DO $$ BEGIN RAISE EXCEPTION 'result %', pipeline.ensure_partition('{day}'); END $$");
    let error = execute_as(stack, WRITER, &asked).unwrap_err();
    let error = error.as_db_error().unwrap();
    error.message().trim_start_matches("result ").to_owned()
}

#[test]
fn each_obstacle_is_named() {
    let stack = migrated();
    let raw = "staging.product_events_raw";
    let detached = format!("SELECT pipeline.ensure_partition('DAY'); ALTER TABLE {raw} DETACH PARTITION LEAF");
    let no_index = "SELECT pipeline.ensure_partition('DAY'); DROP INDEX LEAF_event_id".to_owned();
    let partial = format!("{no_index}; CREATE UNIQUE INDEX ON LEAF (event_id) WHERE user_id > 7");
    let month =
        format!("CREATE TABLE staging.coming PARTITION OF {raw} FOR VALUES FROM ('DAY 00:00Z') TO ('2101-02-01Z')");
    let hour = format!("CREATE TABLE staging.hour PARTITION OF {raw} FOR VALUES FROM ('DAY 05:00Z') TO ('DAY 06:00Z')");
    let other = format!("CREATE TABLE LEAF PARTITION OF {raw} FOR VALUES FROM ('DAY 05:00Z') TO ('DAY 06:00Z')");
    let default = format!(
        "CREATE TABLE staging.rest PARTITION OF {raw} DEFAULT; INSERT INTO {raw} VALUES
        (gen_random_uuid(), 'DAY 12:00Z', 'rfq_sent', 1, 2, 3, 'tools', 'exp_1')"
    );
    let cases = [
        (detached.as_str(), "a table of that name is not attached; attach it with ALTER TABLE"),
        ("CREATE VIEW LEAF AS SELECT 1 AS one", "a view of that name exists; rename it"),
        ("CREATE SEQUENCE LEAF", "a sequence of that name exists; rename it"),
        (
            "CREATE INDEX product_events_raw_NUMBER ON staging.product_events_raw (user_id)",
            "an index of that name exists",
        ),
        ("CREATE TYPE LEAF AS ENUM ('one')", "already exists"),
        (&no_index, "has no unique index on event_id; create one with CREATE UNIQUE INDEX ON LEAF (event_id)"),
        (&partial, "has no unique index on event_id"),
        (&other, "it is attached with other bounds"),
        (&hour, "would overlap partition \"hour\"; detach that partition"),
        (&default, "rows of that day are in the DEFAULT partition staging.rest"),
        (&month, "cannot use table partition staging.coming for DAY: it has no unique index"),
    ];
    for (nth, (obstacle, expected)) in (10..).zip(cases) {
        let (day, number) = (format!("2100-12-{nth}"), format!("210012{nth}"));
        let leaf = format!("{raw}_{number}");
        let filled = |text: &str| text.replace("LEAF", &leaf).replace("DAY", &day).replace("NUMBER", &number);
        execute_as(&stack, OWNER, &filled(obstacle)).unwrap();
        let said = ensure(&stack, &day);
        assert!(said.starts_with("cannot ") && said.contains(&filled(expected)), "{obstacle}: {said}");
    }
    execute(&stack, "ALTER TABLE staging.product_events_raw OWNER TO admin");
    let said = ensure(&stack, "2100-11-01");
    assert!(said.contains("permission denied") && said.contains("OWNER TO pipeline_owner"), "{said}");
}

/// A reader keeps the first step of a detachment from completing.
#[test]
fn a_pending_detachment_is_named() {
    let stack = migrated();
    execute(&stack, "SELECT pipeline.ensure_partition('2100-12-01')");
    let reader = crate::postgres::Lock::take(&stack, "SELECT count(*) FROM staging.product_events_raw");
    let detach =
        "ALTER TABLE staging.product_events_raw DETACH PARTITION staging.product_events_raw_21001201 CONCURRENTLY";
    let url = format!("{}?options=-c%20lock_timeout%3D200ms", crate::support::url_of(&stack, OWNER));
    let detached = crate::support::runtime()
        .block_on(async { crate::support::connect_to(&url).await.unwrap().batch_execute(detach).await });
    detached.unwrap_err();
    let said = ensure(&stack, "2100-12-01");
    assert!(said.contains("its detachment is pending; complete it with ALTER TABLE"), "{said}");
    reader.release();
}

#[test]
fn additions_of_the_owner_are_no_obstacle() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    migrate(&stack);
    let tomorrow = days_ago(-1).hour().date();
    let leaf = format!("product_events_raw_{}", tomorrow.replace('-', ""));
    execute_as(
        &stack,
        OWNER,
        &format!(
            "ALTER TABLE staging.product_events_raw ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY;
             ALTER TABLE staging.product_events_raw ADD COLUMN day date
                 GENERATED ALWAYS AS ((event_timestamp AT TIME ZONE 'UTC')::date) STORED;
             ALTER TABLE staging.product_events_raw ADD CONSTRAINT bounds CHECK (user_id > 0);
             CREATE INDEX {leaf}_event_id ON staging.product_events_raw (user_id)"
        ),
    )
    .unwrap();
    assert_eq!(ensure(&stack, &tomorrow), "t");
    // The owner's own partition of a whole month counts as that of each of its days.
    let (until, early) = (days_ago(390).hour().date(), days_ago(395));
    execute_as(
        &stack,
        OWNER,
        &format!(
            "CREATE TABLE staging.early PARTITION OF staging.product_events_raw FOR VALUES FROM (MINVALUE) TO ('{until}Z');
             CREATE UNIQUE INDEX ON staging.early (event_id)"
        ),
    )
    .unwrap();
    assert_eq!(ensure(&stack, &early.hour().date()), "f");
    let values = |time: &str| -> Vec<String> {
        let replaced = |value: String| {
            let (before, rest) = value.split_once("\"event_timestamp\":\"").unwrap();
            format!("{before}\"event_timestamp\":\"{time}\"{}", rest.split_once('"').unwrap().1)
        };
        (1..=20).map(event).map(replaced).collect()
    };
    let now = crate::support::records::now();
    let soon = event_model::Timestamp::from_micros(now.micros() + 86_300_000_000).to_string();
    let all = [values(&now.to_string()), values(&soon), values(&early.to_string())].concat();
    send(&stack, 0, all.iter().chain(&all[15..45]).cloned());
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!((offsets(&stack), rows(&stack), number(&stack, TABLE)), (ends(&stack), 60, 60));
}

#[test]
fn an_obstacle_to_tomorrow_is_a_warning_today() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    migrate(&stack);
    let leaf = format!("staging.product_events_raw_{}", days_ago(-1).hour().date().replace('-', ""));
    execute_as(&stack, OWNER, &format!("CREATE VIEW {leaf} AS SELECT 1 AS one")).unwrap();
    let mut consumer = Watched::start(&stack);
    send(&stack, 0, [event(1)]);
    consumer.wait_until("today's event is in", |_| rows(&stack) == 1);
    let (status, body) = consumer.get("/readyz");
    assert!(
        status == 200 && body.starts_with("ok\nwarning: ") && body.contains("a view of that name exists"),
        "{body}"
    );
    let metric = "kafka_consumer_next_partition_ready";
    assert!(consumer.metric(metric).abs() < 0.5 && consumer.metric("kafka_consumer_ready") > 0.5);
    execute_as(&stack, OWNER, &format!("DROP VIEW {leaf}")).unwrap();
    consumer.wait_until("the next table partition exists", |one| one.metric(metric) > 0.5);
    assert_eq!(consumer.get("/readyz"), (200, "ok\n".to_owned()));
}

/// PostgreSQL refuses to update or delete rows of a published table that has neither a key nor a replica identity.
#[test]
fn a_publication_of_all_tables_breaks_nothing() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    migrate(&stack);
    execute(&stack, "CREATE PUBLICATION everything FOR ALL TABLES");
    send(&stack, 0, (1..=20).map(event).chain(["no event".to_owned()]));
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    for command in [&["refine"][..], &["refine", "--all"], &["dead-letters", "replay"]] {
        printed(&stack, command);
    }
    // The dead letter is a finding.
    let checked = program(&stack, WRITER, &["check"]).output().unwrap();
    assert!([Some(0), Some(3)].contains(&checked.status.code()), "{checked:?}");
    execute(&stack, "SELECT pipeline.ensure_partition('2026-01-01')");
    succeed(program(&stack, OWNER, &["retention", "--keep", "300d"]));
    execute(&stack, "DELETE FROM staging.product_events_raw WHERE user_id = 7");
    let without = "SELECT coalesce(string_agg(oid::regclass::text, ', '), '') FROM pg_class AS one
        WHERE relkind IN ('r', 'p') AND relreplident = 'd'
          AND relnamespace::regnamespace::text IN ('staging', 'pipeline', 'refined', 'public')
          AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = one.oid AND indisprimary)";
    assert_eq!(query(&stack, without)[0].get::<_, String>(0), "");
}
