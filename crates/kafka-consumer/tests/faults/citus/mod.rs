//! A warehouse on a Citus cluster, which docs/citus.md describes. `make test-citus` runs these tests if `CITUS_URL` and
//! `CITUS_WORKERS` are set; otherwise they are skipped.

mod cluster;
mod commands;
mod failures;
mod loads;
mod recipe;
mod two_phases;

use std::time::Duration;

use serde_json::Value;

use crate::support::{self, WRITER, connect_to, printed, program, runtime};
use cluster::Cluster;

/// Reason for which a test is ignored.
macro_rules! cluster_or_return {
    ($name:literal) => {
        match $crate::citus::cluster::Cluster::create($name) {
            Some(cluster) => cluster,
            None => return,
        }
    };
}
use cluster_or_return;

/// Timeout for a transaction in doubt: Citus resolves it at its recovery interval, which the documents set to 5 s.
const IN_DOUBT: Duration = Duration::from_secs(30);

/// Returns the text in the first column and row of a query's result.
fn text(url: &str, sql: &str) -> String {
    runtime().block_on(async {
        let rows = connect_to(url).await.unwrap().query(sql, &[]).await.unwrap();
        rows[0].get::<_, Option<String>>(0).unwrap_or_default()
    })
}

const ROWS: &str = "SELECT md5(string_agg(event::text, E'\\n' ORDER BY event_id)) FROM (
    SELECT event_id, event_timestamp, event_type, user_id, account_id, product_id, category, experiment_id
    FROM staging.product_events_raw) AS event";

const USER_FEATURES: &str = "SELECT md5(string_agg(feature::text, E'\\n' ORDER BY user_id)) FROM (
    SELECT user_id, searches_last_24h, clicks_last_24h, ctr_last_24h, last_activity_timestamp
    FROM refined.user_features) AS feature";

const ACCOUNT_FEATURES: &str = "SELECT md5(string_agg(feature::text, E'\\n' ORDER BY account_id)) FROM (
    SELECT account_id, active_users_last_7d, account_ctr_last_24h, most_viewed_category_7d
    FROM refined.account_features) AS feature";

/// Returns the digests of the features of users and accounts.
fn features(url: &str) -> [String; 2] {
    [USER_FEATURES, ACCOUNT_FEATURES].map(|sql| text(url, sql))
}

/// Runs the checks. Returns the names of those that did not pass and were not skipped.
fn failed_checks(cluster: &Cluster) -> Vec<String> {
    let output = program(&cluster.stack, WRITER, &["check", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = report["results"].as_array().unwrap().iter();
    let bad = results.filter(|one| !["pass", "skip"].contains(&one["status"].as_str().unwrap()));
    bad.map(|one| format!("{}: {} {}", one["name"], one["status"], one["detail"])).collect()
}

fn refine(cluster: &Cluster, more: &[&str]) -> String {
    printed(&cluster.stack, &[&["refine"], more].concat())
}

/// Returns the number of rows in the table.
fn table_rows(cluster: &Cluster) -> i64 {
    support::number(&cluster.stack, "SELECT count(*) FROM staging.product_events_raw")
}
