//! What each of PostgreSQL's errors leads to, raised by a real server: the row becomes a dead letter, the batch is
//! tried again, or the consumer stops and leaves the offsets where they are.

use local_stack::Stack;

use crate::member::{Member, offsets, rows};
use crate::poison::event;
use crate::postgres::execute;
use crate::support::{number, query};
use crate::topic::{caught_up, ends, make_topic, send};

const OF_A_ROW: [&str; 12] =
    ["22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "23502", "23503", "23514", "23P01", "P0001"];
const THAT_PASS: [&str; 27] = [
    "08000", "08001", "08003", "08004", "08006", "08007", "25006", "25P03", "25P04", "40001", "40P01", "53000",
    "53100", "53200", "53300", "53400", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030",
    "58P01", "58P02", "58P03",
];
const THAT_STOP: [&str; 12] =
    ["08P01", "0A000", "22012", "22P03", "22P04", "28000", "28P01", "3D000", "42501", "42P01", "57P04", "XX000"];

/// A trigger on the partitioned table, so that COPY and INSERT meet it.
fn trigger(stack: &Stack, body: &str) {
    execute(
        stack,
        &format!(
            "CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS refuse ON staging.product_events_raw;
             CREATE TRIGGER refuse BEFORE INSERT ON staging.product_events_raw FOR EACH ROW EXECUTE FUNCTION public.refuse()"
        ),
    );
}

/// `RAISE` with a state; 23514 of a constraint, as a CHECK has it.
fn raise(state: &str) -> String {
    format!("RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{state}', CONSTRAINT = 'of_a_test';")
}

fn stack() -> Stack {
    let stack = Stack::ephemeral().unwrap();
    make_topic(&stack, 1);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    stack
}

#[test]
fn errors_of_a_row_make_it_a_dead_letter() {
    let stack = stack();
    let cases: Vec<String> = OF_A_ROW
        .iter()
        .enumerate()
        .map(|(place, state)| format!("IF NEW.user_id = {} THEN {} END IF;", 1_000 + place, raise(state)))
        .collect();
    trigger(&stack, &cases.concat());
    // Real ones beside the raised ones: a constraint of the table's owner, at once and at the end of the transaction.
    execute(
        &stack,
        "CREATE TABLE public.accounts (id integer PRIMARY KEY); INSERT INTO public.accounts VALUES (2);
         ALTER TABLE staging.product_events_raw ADD CONSTRAINT known FOREIGN KEY (account_id)
            REFERENCES public.accounts DEFERRABLE INITIALLY DEFERRED;
         ALTER TABLE staging.product_events_raw ADD CONSTRAINT liked CHECK (product_id <> 666)",
    );
    let good = |count: u32| (1..=count).map(event);
    let bad = (0..u32::try_from(OF_A_ROW.len()).unwrap()).map(|place| event(1_000 + place));
    let unknown = event(7).replace("\"account_id\":2", "\"account_id\":3");
    let disliked = event(7).replace("\"product_id\":3", "\"product_id\":666");
    let values: Vec<String> = good(50)
        .chain(bad.flat_map(|bad| [bad, event(5)]))
        .chain([unknown, event(6), disliked])
        .chain(good(50))
        .collect();
    send(&stack, 0, values.clone());
    Member::of(&stack, &["--until-caught-up", "--batch-interval", "2s"]).ended_with(0);
    let letters = query(&stack, "SELECT sqlstate, stage FROM pipeline.dead_letters ORDER BY \"offset\"");
    let letters: Vec<(String, String)> = letters.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected: Vec<(String, String)> =
        OF_A_ROW.iter().chain(&["23503", "23514"]).map(|state| ((*state).to_owned(), "insert".to_owned())).collect();
    assert_eq!(letters, expected);
    assert_eq!(rows(&stack), i64::try_from(values.len() - expected.len()).unwrap());
    assert_eq!(offsets(&stack), ends(&stack));
}

#[test]
#[ignore = "fault"]
fn errors_that_pass_are_waited_out() {
    let stack = stack();
    let mut member = Member::of(&stack, &[]);
    for (nth, state) in THAT_PASS.iter().enumerate() {
        // A sequence keeps its number when the transaction is rolled back: the second attempt passes.
        execute(
            &stack,
            "DROP SEQUENCE IF EXISTS public.attempts; CREATE SEQUENCE public.attempts;
            GRANT USAGE ON SEQUENCE public.attempts TO PUBLIC",
        );
        trigger(&stack, &format!("IF nextval('public.attempts') = 1 THEN {} END IF;", raise(state)));
        send(&stack, 0, [event(1)]);
        member.until_said(&format!("\"sqlstate\":\"{state}\""));
        member.until("the row", |_| rows(&stack) == i64::try_from(nth + 1).unwrap());
    }
    caught_up(&stack, &mut member, std::time::Duration::from_secs(10));
    assert_eq!(number(&stack, "SELECT count(*) FROM pipeline.dead_letters"), 0);
    member.stop();
}

#[test]
#[ignore = "fault"]
fn all_others_stop_the_consumer() {
    let stack = stack();
    send(&stack, 0, (1..=20).map(event));
    for state in THAT_STOP {
        trigger(&stack, &format!("IF NEW.user_id = 10 THEN {} END IF;", raise(state)));
        let said = Member::of(&stack, &["--until-caught-up"]).ended_with(1);
        assert!(said.contains("error: PostgreSQL at") && said.contains(&format!("[{state}]")), "{state}: {said}");
        assert_eq!(offsets(&stack), [(0, 0)], "{state}: the offsets are untouched");
        assert_eq!(rows(&stack), 0);
    }
    // A dead letter that cannot be stored.
    trigger(&stack, &format!("IF NEW.user_id = 10 THEN {} END IF;", raise("22001")));
    execute(&stack, "ALTER TABLE pipeline.dead_letters ADD CONSTRAINT none CHECK (false)");
    let said = Member::of(&stack, &["--until-caught-up"]).ended_with(1);
    assert!(said.contains("[23514]"), "{said}");
    execute(&stack, "ALTER TABLE pipeline.dead_letters DROP CONSTRAINT none");
    // Real ones: a right that is missing, a column that is missing.
    execute(&stack, "ALTER TABLE staging.product_events_raw RENAME COLUMN category TO kind");
    let said = Member::of(&stack, &["--until-caught-up"]).ended_with(1);
    assert!(said.contains("[42703]"), "{said}");
    execute(&stack, "ALTER TABLE staging.product_events_raw RENAME COLUMN kind TO category");
    assert_eq!(offsets(&stack), [(0, 0)]);
    Member::of(&stack, &["--until-caught-up"]).ended_with(0);
    assert_eq!((rows(&stack), number(&stack, "SELECT count(*) FROM pipeline.dead_letters")), (19, 1));
}
