//! The table's partitions, one a UTC day, made before a batch needs them.

use std::collections::BTreeSet;

use event_model::Hour;
use tokio_postgres::GenericClient;

/// The days whose partitions this session knows to be there.
#[derive(Debug, Default)]
pub(crate) struct TablePartitions {
    known: BTreeSet<i64>,
}

/// The argument counts days since 1970-01-01. Null says that retention has taken that day.
const ENSURE: &str = "SELECT pipeline.ensure_partition(date '1970-01-01' + $1::integer)";

impl TablePartitions {
    /// Makes the partitions of the days that the hours fall in, each in a short transaction of its own. Returns the
    /// days, counted from 1970-01-01, that retention has taken.
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
                tracing::info!(date = Hour::from_hours(day * 24).date(), "partition created");
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
