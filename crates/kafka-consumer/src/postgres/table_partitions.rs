//! Creates the table's partitions, one per UTC day, before a batch needs them.

use std::collections::BTreeSet;

use event_model::Hour;
use tokio_postgres::GenericClient;

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
    ) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
        let mut expired = BTreeSet::new();
        let days: BTreeSet<i64> = hours.iter().map(|hour| hour.start().days()).collect();
        for day in days.into_iter().filter(|day| !self.known.contains(day)).collect::<Vec<_>>() {
            let number = i32::try_from(day).unwrap_or(i32::MAX);
            let made: Option<bool> = client.query_one(ENSURE, &[&number]).await?.get(0);
            if made == Some(true) {
                tracing::info!(date = Hour::from_hours(day * 24).date(), "table partition created");
            }
            if made.is_some() {
                self.known.insert(day);
            } else {
                expired.insert(day);
            }
        }
        Ok(expired)
    }
}
