//! Random streams with late events, refined as of times that move forwards and backwards while old days are dropped.

use std::fmt::Write as _;

use event_model::Timestamp;
use local_stack::Stack;
use tokio_postgres::Client;

use super::{differences, refine_as_of};
use crate::support::random::Random;
use crate::support::{WRITER, execute_as, migrate, runtime};

const STREAMS: u64 = 1_000;
/// Number of groups of streams. The groups share a server, and each has its own warehouse.
const LOTS: u64 = 2;

const MICROS: i64 = 1;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-10T00:00:00Z
const BEGINNING: i64 = 1_794_268_800_000_000;
const DAYS: i64 = 16;

const TYPES: [&str; 5] = ["search_performed", "result_clicked", "product_viewed", "recommendation_clicked", "rfq_sent"];
const CATEGORIES: [&str; 4] = ["tools", "Tools", "électronique", "furniture"];

fn text(micros: i64) -> String {
    Timestamp::from_micros(micros).to_string()
}

/// Returns a time at the edge of a window, to the microsecond, or in the ten days before; sometimes after `as_of`.
fn event_time(dice: &mut Random, as_of: i64) -> i64 {
    let edge = as_of - dice.one_of(&[0, DAY, 7 * DAY]);
    let time = match dice.below(6) {
        0 => edge + dice.one_of(&[-MICROS, 0, MICROS]),
        1 => edge / HOUR * HOUR + dice.one_of(&[-MICROS, 0, HOUR - MICROS, HOUR]),
        2 => edge + dice.below(2 * HOUR) - HOUR,
        3 => as_of + dice.below(DAY),
        4 => as_of - dice.below(DAY),
        _ => as_of - dice.below(10 * DAY),
    };
    time.clamp(BEGINNING, BEGINNING + DAYS * DAY - MICROS)
}

/// Returns the next as-of time: minutes, hours or days later, earlier, or exactly at an hour's start.
fn next_as_of(dice: &mut Random, as_of: i64) -> i64 {
    let next = match dice.below(7) {
        0 => as_of,
        1 => as_of - dice.below(9 * DAY),
        2 => (as_of / HOUR + 1 + dice.below(30)) * HOUR,
        3 => as_of + DAY,
        4 => as_of + dice.below(3 * DAY),
        _ => as_of + dice.below(20 * MINUTE),
    };
    next.clamp(BEGINNING + 2 * DAY, BEGINNING + (DAYS - 1) * DAY)
}

/// Returns the SQL that inserts rows and the notes of their hours in one transaction, as writers do.
fn rows(dice: &mut Random, as_of: i64, floor: i64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..dice.below(12) {
        let user = 1 + dice.below(4);
        // Most users keep their account.
        let account = if dice.below(8) == 0 { 1 + dice.below(3) } else { 1 + user % 2 };
        let (time, kind, category) = (event_time(dice, as_of), dice.one_of(&TYPES), dice.one_of(&CATEGORIES));
        if time >= floor {
            sql += &super::insert(&text(time), kind, user.try_into().unwrap(), account.try_into().unwrap(), category);
        }
    }
    sql + "COMMIT;"
}

const EMPTY: &str = "DELETE FROM staging.product_events_raw; DELETE FROM pipeline.touched_hours;
    DELETE FROM refined.user_hours; DELETE FROM refined.account_hours; DELETE FROM refined.user_features;
    DELETE FROM refined.account_features; DELETE FROM pipeline.refinements; DELETE FROM pipeline.retention_floors";

/// Refines a stream a few times and compares the result each time.
async fn check_stream(owner: &Client, client: &mut Client, number: u64) {
    let mut dice = Random(number);
    owner.batch_execute(EMPTY).await.unwrap();
    let mut as_of = BEGINNING + 9 * DAY + dice.below(3 * DAY);
    let (mut floor, mut told) = (0, String::new());
    for step in 0..2 + dice.below(2) {
        for _ in 0..=dice.below(2) {
            let sql = rows(&mut dice, as_of, floor);
            owner.batch_execute(&sql).await.unwrap();
            write!(told, "\n{sql}").unwrap();
        }
        if dice.below(12) == 0 {
            floor = floor.max((as_of - dice.below(8 * DAY)) / DAY * DAY);
            let floor = text(floor);
            let sql = format!(
                "INSERT INTO pipeline.retention_floors VALUES ('{}') ON CONFLICT DO NOTHING; {}",
                &floor[..10],
                // The rows of these days are deleted at once or stay for now.
                if dice.below(2) == 0 {
                    format!("DELETE FROM staging.product_events_raw WHERE event_timestamp < '{floor}'")
                } else {
                    String::new()
                }
            );
            owner.batch_execute(&sql).await.unwrap();
            write!(told, "\n{sql}").unwrap();
        }
        let time = text(as_of);
        refine_as_of(client, &time).await;
        write!(told, "\nrefined as of {time}").unwrap();
        let differences = differences(client, &time).await;
        assert!(differences.is_empty(), "stream {number}, step {step}: {differences:#?}{told}");
        as_of = next_as_of(&mut dice, as_of);
    }
}

#[test]
fn features_are_what_their_definition_says() {
    let stack = Stack::ephemeral().unwrap();
    migrate(&stack);
    for day in 0..DAYS {
        let day = text(BEGINNING + day * DAY);
        execute_as(&stack, WRITER, &format!("SELECT pipeline.ensure_partition('{}')", &day[..10])).unwrap();
    }
    for lot in 1..LOTS {
        crate::support::execute(&stack, &format!("CREATE DATABASE lot_{lot} TEMPLATE warehouse"));
    }
    std::thread::scope(|scope| {
        for lot in 0..LOTS {
            let stack = &stack;
            scope.spawn(move || {
                runtime().block_on(async {
                    let warehouse = if lot == 0 { "warehouse".to_owned() } else { format!("lot_{lot}") };
                    let owner = crate::support::connect_to(&stack.postgres.url_of(&warehouse)).await.unwrap();
                    // The superuser's sessions would otherwise have the server's time zone.
                    owner.batch_execute("SET timezone = 'UTC'; SET synchronous_commit = off").await.unwrap();
                    let mut client = super::session_of(stack, &warehouse).await;
                    client.batch_execute("SET synchronous_commit = off").await.unwrap();
                    for number in (lot..STREAMS).step_by(LOTS.try_into().unwrap()) {
                        check_stream(&owner, &mut client, number).await;
                    }
                });
            });
        }
    });
}
