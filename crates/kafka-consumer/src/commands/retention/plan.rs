//! Drops whole days from the table.
//!
//! The floor is raised first: from then on no session creates a partition of an earlier day, and events of such days
//! count as expired. The same transaction notes the partitions to drop. Each is then detached without blocking readers
//! or writers, and dropped. An interrupted run leaves its notes, and the next run continues with them.

use anyhow::{Context, bail};
use tokio_postgres::{Client, GenericClient};

use crate::commands::retention::expired_partitions::{self, ExpiredPartition};
use crate::postgres::{self, owner};

/// Floor and expired partitions of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// First UTC day that is kept, such as 2026-11-22.
    pub(crate) floor: String,
    /// Partitions of earlier days.
    pub(crate) doomed: Vec<ExpiredPartition>,
}

/// The floor never decreases, because dropped days do not come back.
const FLOOR: &str = "SELECT greatest(
        ((now() - $1::bigint * interval '1 second') AT TIME ZONE 'UTC')::date,
        (SELECT max(floor) FROM pipeline.retention_floors))::text";

/// Returns the floor and the partitions of the whole UTC days older than `keep_seconds`. Fails if the role does not own
/// the table, if the bounds of a partition cannot be read, or if a DEFAULT partition keeps the others from being
/// detached.
pub(crate) async fn plan(client: &Client, keep_seconds: i64) -> anyhow::Result<Plan> {
    owner::require(client, "drop table partitions").await?;
    if let Some((name, bounds)) =
        expired_partitions::unreadable(client).await.context("cannot read the table partitions")?
    {
        bail!("cannot read the bounds of staging.{name}: {bounds}; detach it, or attach it with times as bounds");
    }
    let floor: String =
        client.query_one(FLOOR, &[&keep_seconds]).await.context("cannot compute the first day to keep")?.get(0);
    let doomed = expired_partitions::doomed(client, &floor).await.context("cannot read the table partitions")?;
    if doomed.iter().any(ExpiredPartition::is_attached) {
        refuse_default(client).await?;
    }
    Ok(Plan { floor, doomed })
}

/// Fails beside a DEFAULT partition. A plain detachment would block all readers and writers of the table.
async fn refuse_default(client: &impl GenericClient) -> anyhow::Result<()> {
    if let Some(name) =
        expired_partitions::default_partition(client).await.context("cannot read the table partitions")?
    {
        bail!(
            "cannot drop table partitions beside the DEFAULT partition {name}: PostgreSQL does not detach them \
             concurrently; run ALTER TABLE staging.product_events_raw DETACH PARTITION {name}, then this command again"
        );
    }
    Ok(())
}

/// Drops the expired partitions. Calls `gone` after each one.
pub(crate) async fn run(
    client: &mut Client,
    keep_seconds: i64,
    mut gone: impl FnMut(&ExpiredPartition),
) -> anyhow::Result<Plan> {
    let alone = "SELECT pg_try_advisory_lock(hashtextextended('event-pipeline: retention', 0))";
    if !client.query_one(alone, &[]).await?.get::<_, bool>(0) {
        bail!("cannot run retention: another session is running it; wait for it to finish");
    }
    // Checks the owner and the bounds before the floor is raised, because the floor never decreases again.
    plan(client, keep_seconds).await?;
    let plan = begin(client, keep_seconds).await.context("cannot raise the retention floor; nothing was dropped")?;
    for one in &plan.doomed {
        let name = &one.name;
        let detached = expired_partitions::detach(client, one).await.map_err(|error| {
            anyhow::anyhow!(
                "cannot detach {name}: {}; end long transactions (see pg_stat_activity), and run the same command again to \
                 continue",
                postgres::describe(&error)
            )
        });
        detached?;
        expired_partitions::drop(client, one).await.with_context(|| {
            format!("cannot drop {name}, which is detached; run the same command again to continue")
        })?;
        gone(one);
    }
    Ok(plan)
}

/// Raises the floor and notes the partitions to drop, under the lock that creating a partition takes.
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
