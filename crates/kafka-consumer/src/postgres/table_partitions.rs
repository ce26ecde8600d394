//! Creates the table's partitions, one per UTC day, before a batch needs them.

use std::collections::BTreeSet;

use event_model::Hour;
use tokio_postgres::{Error, GenericClient};

use crate::postgres::cluster;

/// Days whose table partitions are known to exist, so that a session asks for each day once.
#[derive(Debug, Default)]
pub(crate) struct TablePartitions {
    known: BTreeSet<i64>,
}

/// The argument is a day in days since 1970-01-01. NULL means that retention has dropped that day.
const ENSURE: &str = "SELECT pipeline.ensure_partition(date '1970-01-01' + $1::integer)";

impl TablePartitions {
    /// Creates the table partitions of the days that contain the hours, each in its own short transaction. Returns the
    /// days that retention has dropped, in days since 1970-01-01.
    pub(crate) async fn ensure(
        &mut self,
        client: &impl GenericClient,
        hours: &BTreeSet<Hour>,
    ) -> Result<BTreeSet<i64>, Error> {
        let mut expired = BTreeSet::new();
        let days: BTreeSet<i64> = hours.iter().map(|hour| hour.start().days()).collect();
        for day in days.into_iter().filter(|day| !self.known.contains(day)).collect::<Vec<_>>() {
            if ensure_day(client, day).await? {
                // Another session may have created it a moment ago, or its transaction may be in doubt on a worker.
                cluster::await_workers(client).await?;
                self.known.insert(day);
            } else {
                expired.insert(day);
            }
        }
        Ok(expired)
    }
}

/// Creates the table partition of a day, in days since 1970-01-01, unless it exists. Returns true if it was created now,
/// and `None` if retention has dropped the day. The error names the obstacle.
pub(crate) async fn create_day(client: &impl GenericClient, day: i64) -> Result<Option<bool>, Error> {
    let number = i32::try_from(day).unwrap_or(i32::MAX);
    client.query_one(ENSURE, &[&number]).await?.try_get(0)
}

/// Creates and logs the table partition of a day. Returns false if retention has dropped the day.
pub(crate) async fn ensure_day(client: &impl GenericClient, day: i64) -> Result<bool, Error> {
    let created = create_day(client, day).await?;
    if created == Some(true) {
        tracing::info!(date = date_of(day), "table partition created");
    }
    Ok(created.is_some())
}

/// Formats a day as a date, such as 2026-11-22.
fn date_of(day: i64) -> String {
    Hour::from_hours(day * 24).date()
}
