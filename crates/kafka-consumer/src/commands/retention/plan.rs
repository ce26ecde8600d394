//! Letting whole days of the table go.
//!
//! The floor comes first: from then on nobody makes a partition of an earlier day, and events of such days count as
//! expired. Which partitions are to go is noted in the same transaction; each is then detached without stopping readers
//! or writers, and dropped. Whatever interrupts this, the next run goes on with what is noted.

use anyhow::{Context, bail};
use tokio_postgres::Client;

use crate::commands::retention::expired_partitions::{self, ExpiredPartition};
use crate::postgres;

/// What a run lets go, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The first UTC day that is kept, such as 2026-11-22.
    pub(crate) floor: String,
    /// The partitions of earlier days.
    pub(crate) doomed: Vec<ExpiredPartition>,
}

/// The floor never goes down: what was dropped does not come back by itself.
const FLOOR: &str = "SELECT greatest(
        ((now() - $1::bigint * interval '1 second') AT TIME ZONE 'UTC')::date,
        (SELECT max(floor) FROM pipeline.retention_floors))::text";

const OWNER: &str = "SELECT pg_has_role(relowner, 'USAGE'), pg_get_userbyid(relowner)::text, current_user::text
    FROM pg_class WHERE oid = 'staging.product_events_raw'::regclass";

/// What is older than so many seconds, by whole UTC days.
pub(crate) async fn plan(client: &Client, keep_seconds: i64) -> anyhow::Result<Plan> {
    let row = client.query_one(OWNER, &[]).await.context("the table's owner was not told")?;
    if !row.get::<_, bool>(0) {
        let (owner, user): (String, String) = (row.get(1), row.get(2));
        bail!(
            "staging.product_events_raw belongs to {owner}, and only its owner may drop partitions; this session is {user}'s"
        );
    }
    if let Some((name, bounds)) =
        expired_partitions::unreadable(client).await.context("cannot read the table partitions")?
    {
        bail!("cannot read the bounds of staging.{name}: {bounds}; detach it, or attach it with bounds that are times");
    }
    let floor: String = client.query_one(FLOOR, &[&keep_seconds]).await.context("no floor")?.get(0);
    let doomed = expired_partitions::doomed(client, &floor).await.context("the partitions cannot be read")?;
    Ok(Plan { floor, doomed })
}

/// Lets go what is older. Calls back for each partition that is gone.
pub(crate) async fn run(
    client: &mut Client,
    keep_seconds: i64,
    mut gone: impl FnMut(&ExpiredPartition),
) -> anyhow::Result<Plan> {
    let alone = "SELECT pg_try_advisory_lock(hashtextextended('event-pipeline: retention', 0))";
    if !client.query_one(alone, &[]).await?.get::<_, bool>(0) {
        bail!("retention is at work in another session");
    }
    plan(client, keep_seconds).await?;
    let plan = begin(client, keep_seconds).await.context("the floor was not raised, nothing was dropped")?;
    for one in &plan.doomed {
        let name = &one.name;
        let detached = expired_partitions::detach(client, one).await.map_err(|error| {
            anyhow::anyhow!(
                "{name} is not detached yet: {}; running the same command again goes on here. If it waited for others, \
                 look in pg_stat_activity for transactions that are open for long",
                postgres::describe(&error)
            )
        });
        detached?;
        expired_partitions::drop(client, one)
            .await
            .with_context(|| format!("{name} is detached, but not dropped yet; run it again"))?;
        gone(one);
    }
    Ok(plan)
}

/// Raises the floor and notes what is to go, while nobody makes partitions.
async fn begin(client: &mut Client, keep_seconds: i64) -> anyhow::Result<Plan> {
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('event-pipeline: partitions of product_events_raw', 0))",
            &[],
        )
        .await?;
    let floor: String = transaction.query_one(FLOOR, &[&keep_seconds]).await?.get(0);
    transaction
        .execute(
            "INSERT INTO pipeline.retention_floors (floor) VALUES ($1::text::date) ON CONFLICT DO NOTHING",
            &[&floor],
        )
        .await?;
    let doomed = expired_partitions::doomed(&transaction, &floor).await?;
    expired_partitions::note(&transaction, &doomed).await?;
    transaction.commit().await?;
    Ok(Plan { floor, doomed })
}
