//! Every event becomes exactly one row, even if processes are killed.

use std::process::Stdio;

use crate::support::records::{Record, now, produce};
use crate::support::{consumer, generator, number, query, signal, succeed, verify, wait_until};
use local_stack::Stack;

const ROWS: &str = "SELECT coalesce(sum(rows_inserted), 0)::bigint FROM pipeline.consumer_offsets";

#[test]
fn a_million_events_while_the_consumer_is_killed_twice() {
    let stack = Stack::ephemeral().unwrap();
    let mut generator = generator(&stack);
    generator.args(["--count", "1000000", "--run-id", "killed", "--seed", "7"]);
    generator.args(["--fault", "invalid=0.5%", "--fault", "corrupt=0.1%", "--fault", "duplicate=1%"]);
    succeed(generator);

    let mut before = 0;
    for _ in 0..2 {
        let mut child = consumer(&stack).stderr(Stdio::null()).spawn().unwrap();
        wait_until(&mut child, || number(&stack, ROWS) > before + 100_000);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "killed, not ended: {status}");
        before = number(&stack, ROWS);
        assert!(before < 900_000, "killed too late to be in the middle: {before}");
    }
    let mut last = consumer(&stack);
    last.arg("--until-caught-up");
    succeed(last);

    let report = verify(&stack, "killed");
    assert!(report.holds(), "{report}");
}

#[test]
fn ctrl_c_is_a_clean_end_and_its_summary_is_true() {
    let stack = Stack::ephemeral().unwrap();
    let mut generator = generator(&stack);
    generator.args(["--count", "300000", "--run-id", "interrupted"]);
    succeed(generator);

    let mut child = consumer(&stack).spawn().unwrap();
    wait_until(&mut child, || number(&stack, ROWS) > 0);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let committed = number(&stack, "SELECT sum(records)::bigint FROM pipeline.consumer_offsets");
    let summary = said.lines().find(|line| line.contains("run ended")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    assert_eq!(summary["records"], committed, "{summary}");

    let mut rest = consumer(&stack);
    rest.arg("--until-caught-up");
    succeed(rest);
    let report = verify(&stack, "interrupted");
    assert!(report.holds(), "{report}");
}

#[test]
fn two_consumers_share_the_topic() {
    let stack = Stack::ephemeral().unwrap();
    let mut first = consumer(&stack).stderr(Stdio::null()).spawn().unwrap();
    let mut second = consumer(&stack).stderr(Stdio::null()).spawn().unwrap();
    let mut generator = generator(&stack);
    generator.args(["--count", "300000", "--run-id", "shared", "--fault", "duplicate=1%,corrupt=0.1%"]);
    succeed(generator);
    let records = "SELECT coalesce(sum(records), 0)::bigint FROM pipeline.consumer_offsets";
    wait_until(&mut first, || number(&stack, records) > 0);
    for child in [&first, &second] {
        signal(child, "-TERM");
    }
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    let mut last = consumer(&stack);
    last.arg("--until-caught-up");
    succeed(last);
    let report = verify(&stack, "shared");
    assert!(report.holds(), "{report}");
}

#[test]
fn an_id_that_comes_again_with_other_content_is_counted_apart() {
    let stack = Stack::ephemeral().unwrap();
    let time = now();
    let event = |user: u32| {
        format!(
            r#"{{"event_id":"9f3c0b1e-3c5a-4d9b-8e0f-0123456789ab","event_timestamp":"{time}","event_type":"rfq_sent","user_id":{user},"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}}"#
        )
    };
    // In the same batch, and again in a later one.
    for values in [vec![event(1), event(1), event(2)], vec![event(3), event(4)]] {
        let mut run = consumer(&stack);
        run.arg("--until-caught-up");
        succeed(run);
        produce(&stack, &values.into_iter().map(|value| Record::of(0, value)).collect::<Vec<_>>());
        let mut run = consumer(&stack);
        run.arg("--until-caught-up");
        succeed(run);
    }
    let sums = "SELECT sum(records)::bigint, sum(rows_inserted)::bigint, sum(duplicates)::bigint,
                sum(duplicates_differing)::bigint FROM pipeline.consumer_offsets";
    let rows = query(&stack, sums);
    let counts: [i64; 4] = std::array::from_fn(|column| rows[0].get(column));
    assert_eq!(counts[..3], [5, 1, 4]);
    assert!(counts[3] >= 3, "{counts:?}");
    assert_eq!(number(&stack, "SELECT user_id::bigint FROM staging.product_events_raw"), 1);
}
