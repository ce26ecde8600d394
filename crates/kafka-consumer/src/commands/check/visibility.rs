//! Restricts a check to the rows that the last refinement and the counts of the consumers include.
//!
//! On one server, snapshots identify these rows. Each server of a cluster has separate snapshots. There, the checks
//! compare with the counts before and after, and exclude rows that were inserted while the refinement ran.

use tokio_postgres::{Error, GenericClient};

use crate::commands::check::definition::Check;
use crate::postgres::cluster;

/// Condition for the rows that the last refinement has seen, on one server.
const REFINED: &str = "(ingested_at < refined_at - interval '1 hour'
           OR pg_visible_in_snapshot((next_xid - ((next_xid - raw.xmin::text::bigint) & 4294967295))::text::xid8, snapshot))";

/// The same for a distributed table: rows whose transaction began before the end of the refinement.
const REFINED_ON_WORKERS: &str = "ingested_at < coalesce(upper(unsettled), refined_at)";

/// Condition for the rows among them that it may not have seen.
const UNCERTAIN_ON_WORKERS: &str = "(ingested_at >= coalesce(lower(unsettled), refined_at - interval '10 minutes'))";

const CONSUMED: &str = "SELECT coalesce(sum(rows_inserted), 0)::bigint FROM pipeline.consumer_offsets";
const PRESENT: &str = "SELECT count(*) FROM staging.product_events_raw";

/// Returns the query of a check with its placeholders filled in.
pub(super) async fn query_of(
    client: &impl GenericClient,
    check: &Check,
    is_distributed: bool,
) -> Result<String, Error> {
    if !is_distributed {
        return Ok(fill(&check.sql, [REFINED, "false", &format!("({PRESENT})"), "consumed"]));
    }
    let (mut present, mut consumed) = (String::new(), String::new());
    if check.sql.contains("{rows_present}") {
        consumed = client.query_one(CONSUMED, &[]).await?.try_get::<_, i64>(0)?.to_string();
        cluster::await_workers(client).await?;
        present = client.query_one(PRESENT, &[]).await?.try_get::<_, i64>(0)?.to_string();
    }
    Ok(fill(&check.sql, [REFINED_ON_WORKERS, UNCERTAIN_ON_WORKERS, &present, &consumed]))
}

fn fill(sql: &str, [refined, perhaps_refined, present, consumed]: [&str; 4]) -> String {
    sql.replace("{refined}", refined)
        .replace("{perhaps_refined}", perhaps_refined)
        .replace("{rows_present}", present)
        .replace("{rows_consumed}", consumed)
}
