//! Additions of the owner to the table: a second unique index, an exclusion constraint, triggers, rules.
//!
//! Only an equal `event_id` is a duplicate, and only a row in the table counts as a row.

use event_model::Timestamp;
use local_stack::Stack;

use crate::consumer_process::{Member, offsets, rows};
use crate::poison::{event, number_of};
use crate::postgres::execute;
use crate::support::{number, printed_json, query};
use crate::test_topic::{ends, make_topic, send};

const TABLE: &str = "SELECT count(*) FROM staging.product_events_raw";

fn sum(stack: &Stack, column: &str) -> i64 {
    number(stack, &format!("SELECT sum({column})::bigint FROM pipeline.consumer_offsets"))
}

/// Returns an event with this user, category, product and time.
fn event_of(user: u32, category: &str, product: u32, time: Timestamp) -> String {
    let event = event(user).replace("\"tools\"", &format!("\"{category}\""));
    let event = event.replace("\"product_id\":3", &format!("\"product_id\":{product}"));
    let (before, rest) = event.split_once("\"event_timestamp\":\"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}\"event_timestamp\":\"{time}\"{after}")
}

fn run(stack: &Stack, more: &[&str]) {
    Member::of(stack, &[&["--until-caught-up", "--batch-interval", "2s"], more].concat()).ended_with(0);
    assert_eq!(offsets(stack), ends(stack));
}

fn stack() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    send(&stack, 0, [event(1)]);
    run(&stack, &[]);
    stack
}

/// Returns the table partition of the first event.
fn leaf(stack: &Stack) -> String {
    query(stack, "SELECT tableoid::regclass::text FROM staging.product_events_raw LIMIT 1")[0].get(0)
}

#[test]
fn only_an_equal_event_id_is_a_duplicate() {
    let stack = stack();
    let (table, leaf) = ("staging.product_events_raw", leaf(&stack));
    let variants = [
        ("23505", format!("CREATE UNIQUE INDEX one ON {table} (event_timestamp, user_id)"), "DROP INDEX staging.one"),
        ("23505", format!("CREATE UNIQUE INDEX one ON {leaf} (user_id)"), "DROP INDEX staging.one"),
        (
            "23505",
            format!("CREATE UNIQUE INDEX one ON {table} (event_timestamp, user_id) WHERE event_type = 'rfq_sent'"),
            "DROP INDEX staging.one",
        ),
        ("23505", format!("CREATE UNIQUE INDEX one ON {leaf} (lower(category))"), "DROP INDEX staging.one"),
        (
            "23P01",
            format!(
                "ALTER TABLE {leaf} ADD CONSTRAINT one
                 EXCLUDE USING gist (int8range(user_id::bigint, user_id::bigint, '[]') WITH &&)"
            ),
            "ALTER TABLE staging.product_events_raw DROP CONSTRAINT IF EXISTS one; ALTER TABLE LEAF DROP CONSTRAINT one",
        ),
        // An index that rejects no row.
        ("", format!("CREATE UNIQUE INDEX one ON {leaf} (event_id, (1)) WHERE false"), "DROP INDEX staging.one"),
    ];
    for (nth, (sqlstate, add, remove)) in (1_u32..).zip(variants) {
        let innocent = add.contains("WHERE false");
        execute(&stack, &add);
        let time = crate::support::records::now();
        let texts = |user: u32| event_of(user, &format!("c{nth}-{user}"), 3, time);
        let first = event_of(nth * 1_000 + 7, &format!("beta {nth}"), 3, time);
        let second = event_of(nth * 1_000 + 7, &format!("Beta {nth}"), 99, time);
        let others: Vec<String> = (0..50).map(|user| texts(nth * 1_000 + 100 + user)).collect();
        let before =
            ["rows_inserted", "duplicates", "duplicates_differing", "dead_letters"].map(|one| sum(&stack, one));
        // First without, then with a true duplicate in the batch.
        for again in [false, true] {
            let values: Vec<String> = if again {
                vec![first.clone(), second.clone(), others[3].clone()]
            } else {
                [&[first.clone(), second.clone()], &others[..]].concat()
            };
            send(&stack, 0, values);
            run(&stack, &[]);
        }
        let after = ["rows_inserted", "duplicates", "duplicates_differing", "dead_letters"].map(|one| sum(&stack, one));
        let change: Vec<i64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let expected = if innocent { [52, 3, 0, 0] } else { [51, 2, 0, 2] };
        assert_eq!(change, expected, "{add}");
        assert_eq!(number(&stack, TABLE), rows(&stack), "{add}");
        if innocent {
            execute(&stack, remove);
            continue;
        }
        let letters = query(&stack, "SELECT sqlstate, reason FROM pipeline.dead_letters WHERE replayed_at IS NULL");
        for letter in &letters {
            assert_eq!(letter.get::<_, String>(0), sqlstate, "{add}");
            // An index of a table partition is named after its columns.
            let name =
                if add.contains(&format!("ON {table} (")) { "_event_timestamp_user_id_idx\"" } else { "\"one\"" };
            let reason: String = letter.get(1);
            assert!(reason.contains(name), "{add}: {reason}");
        }
        replays(&stack, &remove.replace("LEAF", &leaf));
    }
}

/// Checks that two dead letters of one event stay open while the table rejects them. Later one becomes a row and the
/// other its duplicate.
fn replays(stack: &Stack, remove: &str) {
    let still = printed_json(stack, &["dead-letters", "replay", "--json"]);
    assert_eq!((still["rows"].as_i64(), still["duplicates"].as_i64()), (Some(0), Some(0)), "{still}");
    assert_eq!(number(stack, "SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NULL"), 2);
    execute(stack, remove);
    let now = printed_json(stack, &["dead-letters", "replay", "--json"]);
    assert_eq!((now["rows"].as_i64(), now["duplicates"].as_i64()), (Some(1), Some(1)), "{now}");
    assert_eq!(number(stack, "SELECT count(*) FROM pipeline.dead_letters WHERE replayed_at IS NULL"), 0);
    // Rows inserted by a replay are not part of the consumers' counts.
    execute(stack, "DELETE FROM staging.product_events_raw WHERE product_id = 99");
}

fn trigger(stack: &Stack, body: &str) {
    execute(
        stack,
        &format!(
            "CREATE OR REPLACE FUNCTION public.owners() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             DROP TRIGGER IF EXISTS owners ON staging.product_events_raw;
             CREATE TRIGGER owners BEFORE INSERT ON staging.product_events_raw FOR EACH ROW EXECUTE FUNCTION public.owners()"
        ),
    );
}

/// Rows that a trigger skips count as suppressed in every batch and after every replay of the topic.
#[test]
fn rows_that_a_trigger_leaves_out_are_no_rows() {
    let stack = stack();
    execute(
        &stack,
        "CREATE TABLE public.aside (LIKE staging.product_events_raw); GRANT INSERT ON public.aside TO PUBLIC;
         GRANT USAGE ON SCHEMA public TO PUBLIC",
    );
    let left_out = [
        ("IF NEW.user_id % 10 = 0 THEN RETURN NULL; END IF; RETURN NEW;", 10),
        ("RETURN NULL;", 100),
        ("IF NEW.user_id % 10 = 0 THEN INSERT INTO public.aside SELECT NEW.*; RETURN NULL; END IF; RETURN NEW;", 10),
        ("NEW.user_id := 1; RETURN NEW;", 0),
        ("NEW.event_id := gen_random_uuid(); RETURN NEW;", 0),
    ];
    for (body, suppressed) in left_out {
        trigger(&stack, body);
        let values: Vec<String> = (1..=100).map(event).collect();
        let counts = || ["rows_inserted", "duplicates", "dead_letters", "suppressed"].map(|one| sum(&stack, one));
        let before = counts();
        send(&stack, 0, values.clone());
        run(&stack, &[]);
        assert_eq!(change(before, counts()), [100 - suppressed, 0, 0, suppressed], "{body}");
        assert_eq!(number(&stack, TABLE), rows(&stack), "{body}");
        let before = counts();
        send(&stack, 0, values);
        run(&stack, &[]);
        let expected =
            if body.contains("gen_random_uuid") { [100, 0, 0, 0] } else { [0, 100 - suppressed, 0, suppressed] };
        assert_eq!(change(before, counts()), expected, "again: {body}");
        assert_eq!(number(&stack, TABLE), rows(&stack), "again: {body}");
    }
    assert_eq!(number(&stack, "SELECT count(*) FROM public.aside"), 20);

    // Rules apply to INSERT only. COPY, the only way into the table, ignores them.
    execute(
        &stack,
        "DROP TRIGGER owners ON staging.product_events_raw;
         CREATE RULE owners AS ON INSERT TO staging.product_events_raw WHERE NEW.user_id % 10 = 0 DO INSTEAD NOTHING",
    );
    let values: Vec<String> = (1..=100).map(event).collect();
    let before = (rows(&stack), sum(&stack, "suppressed"));
    // A duplicate in the batch makes all of its rows use the staged insert.
    send(&stack, 0, values.iter().chain(&values[..5]).cloned());
    run(&stack, &[]);
    assert_eq!((rows(&stack), sum(&stack, "suppressed")), (before.0 + 100, before.1));
    assert_eq!(number(&stack, TABLE), rows(&stack));
}

fn change<const N: usize>(before: [i64; N], after: [i64; N]) -> [i64; N] {
    std::array::from_fn(|nth| after[nth] - before[nth])
}

/// One batch covers two partitions, and each partition has its own count.
#[test]
fn suppressed_rows_are_counted_where_they_belong() {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 2);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    trigger(&stack, "IF NEW.product_id = 4 THEN RETURN NULL; END IF; RETURN NEW;");
    let suppressed =
        |count: u32| (0..count).map(|user| event(user + 1).replace("\"product_id\":3", "\"product_id\":4"));
    send(&stack, 0, (1..=30).map(event).chain(suppressed(7)));
    send(&stack, 1, suppressed(11).chain((1..=40).map(event)));
    run(&stack, &["--writers", "1"]);
    let counts =
        query(&stack, "SELECT partition, rows_inserted, suppressed FROM pipeline.consumer_offsets ORDER BY partition");
    let counts: Vec<(i32, i64, i64)> = counts.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(counts, [(0, 30, 7), (1, 40, 11)]);
}

/// A replay closes only dead letters whose event is in the table.
#[test]
fn a_suppressed_letter_stays_open() {
    let stack = stack();
    trigger(
        &stack,
        "IF NEW.user_id > 1000 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = 'U0001'; END IF; RETURN NEW;",
    );
    send(&stack, 0, (1..=10).chain(1_001..=1_004).map(event));
    run(&stack, &[]);
    assert_eq!(number_of(&stack, "replayed_at IS NULL AND sqlstate = 'U0001'"), 4);
    trigger(&stack, "IF NEW.user_id > 1002 THEN RETURN NULL; END IF; RETURN NEW;");
    let replayed = printed_json(&stack, &["dead-letters", "replay", "--json"]);
    assert_eq!((replayed["rows"].as_i64(), replayed["suppressed"].as_i64()), (Some(2), Some(2)), "{replayed}");
    assert_eq!(number_of(&stack, "replayed_at IS NULL"), 2);
    assert_eq!(number(&stack, TABLE), 1 + 10 + 2);
}

/// PostgreSQL says only that data is missing.
#[test]
fn a_changed_column_type_ends_the_consumer_with_a_way_to_find_it() {
    let stack = stack();
    let change = "ALTER TABLE staging.product_events_raw ALTER COLUMN product_id TYPE bigint";
    execute(&stack, &format!("DROP VIEW staging.product_events; {change}"));
    send(&stack, 0, [event(2)]);
    let before = offsets(&stack);
    let said = Member::of(&stack, &["--until-caught-up"]).ended_with(1);
    assert!(said.contains("[08P01]") && said.contains("'kafka-consumer doctor' names it"), "{said}");
    assert_eq!(offsets(&stack), before);
}
