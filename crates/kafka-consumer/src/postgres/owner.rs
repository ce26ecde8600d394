//! Checks that the role owns the table, which some commands require.

use anyhow::{Context, bail};
use tokio_postgres::Client;

const OWNER: &str = "SELECT pg_has_role(relowner, 'USAGE'), pg_get_userbyid(relowner)::text, current_user::text
    FROM pg_class WHERE oid = 'staging.product_events_raw'::regclass";

/// Fails if the role does not own the table. The error names `action`, such as `drop partitions`.
pub(crate) async fn require(client: &Client, action: &str) -> anyhow::Result<()> {
    let row = client.query_one(OWNER, &[]).await.context("cannot read the owner of staging.product_events_raw")?;
    if !row.get::<_, bool>(0) {
        let (owner, user): (String, String) = (row.get(1), row.get(2));
        bail!("cannot {action} as {user}: staging.product_events_raw belongs to {owner}; connect as its owner");
    }
    Ok(())
}
