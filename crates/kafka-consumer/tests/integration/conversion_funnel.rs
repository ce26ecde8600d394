//! Compares the output of `describe` for a run with the data in the warehouse.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{catch_up, query, sender, succeed};
use local_stack::Stack;
use serde_json::Value;

const EVENTS: f64 = 1e6;
const WORLD: [&str; 4] = ["--seed", "21", "--effect", "exp_3=+15%,exp_7=-40%"];

const TYPES: &str = "SELECT experiment_id, event_type, count(*)::float8 FROM staging.product_events_raw GROUP BY 1, 2";

const DECILES: &str = "WITH users AS (
        SELECT user_id, ntile(10) OVER (ORDER BY count(*) DESC) AS decile
        FROM staging.product_events_raw GROUP BY user_id)
    SELECT decile::text, event_type, count(*)::float8
    FROM staging.product_events_raw JOIN users USING (user_id) GROUP BY 1, 2";

/// Counts by group and event type.
type Counts = BTreeMap<(String, String), f64>;

fn described() -> Value {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kafka-consumer")).with_file_name("event-generator");
    let mut command = Command::new(program);
    command.args(["describe", "--json"]).args(WORLD);
    serde_json::from_slice(&succeed(command).stdout).unwrap()
}

fn counted(stack: &Stack, sql: &str) -> Counts {
    query(stack, sql).iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Converts the description's shares to numbers of events.
fn expected(groups: &Value) -> Counts {
    let groups = groups.as_array().unwrap().iter();
    let of = |group: &Value| {
        let name = group["name"].as_str().unwrap().to_owned();
        let types = group["types"].as_object().unwrap().clone();
        types.into_iter().map(move |(kind, part)| ((name.clone(), kind), part.as_f64().unwrap() * EVENTS))
    };
    groups.flat_map(of).collect()
}

fn requests_per_view(counts: &Counts, group: &str) -> (f64, f64) {
    let of = |kind: &str| counts[&(group.to_owned(), kind.to_owned())];
    let (requests, views) = (of("rfq_sent"), of("product_viewed"));
    (requests / views, requests.sqrt() / views)
}

#[test]
fn the_truth_is_found_again() {
    let stack = Stack::ephemeral().unwrap();
    let mut run = sender(&stack, "max");
    run.args(["--count", "1M", "--no-lake"]).args(WORLD);
    succeed(run);
    catch_up(&stack, &[]);
    let truth = described();

    // Counts by experiment and type are random. Sessions produce several events at a time, so the counts scatter
    // slightly more than Poisson's.
    let found = counted(&stack, TYPES);
    let experiments = expected(&truth["experiments"]);
    assert_eq!(found.len(), 50);
    for (group, expected) in &experiments {
        let found = found[group];
        assert!((found - expected).abs() < 6.0 * expected.sqrt(), "{group:?}: {found} of {expected}");
    }
    for (kind, part) in truth["all"]["types"].as_object().unwrap() {
        let found: f64 = found.iter().filter(|((_, of), _)| of == kind).map(|(_, count)| count).sum();
        let expected = part.as_f64().unwrap() * EVENTS;
        assert!((found - expected).abs() < 4.0 * expected.sqrt(), "{kind}: {found} of {expected}");
    }

    // An analyst's estimate of the effects, relative to the experiments that change nothing.
    let plain: f64 = [1, 2, 4, 5, 6, 8, 9, 10].map(|n| requests_per_view(&found, &format!("exp_{n}")).0).iter().sum();
    for (experiment, effect) in [("exp_3", 0.15), ("exp_7", -0.4)] {
        let (rate, error) = requests_per_view(&found, experiment);
        let (lift, error) = (rate / (plain / 8.0) - 1.0, error / (plain / 8.0));
        assert!((lift - effect).abs() < 4.0 * error && error < 0.04, "{experiment}: {lift} ± {error}");
        assert!(lift.abs() > 3.0 * error, "{experiment} does not stand out: {lift} ± {error}");
    }

    // The assignment of users to deciles is random, too.
    let found = counted(&stack, DECILES);
    let deciles = expected(&truth["user_deciles"]);
    assert_eq!((found.len(), deciles.len()), (50, 50));
    for (group, expected) in &deciles {
        let found = found[group];
        assert!((found - expected).abs() < 0.1 * expected + 3.0 * expected.sqrt(), "{group:?}: {found} of {expected}");
    }
}
