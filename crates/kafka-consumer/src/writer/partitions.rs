//! The table's partitions, one a UTC day, made before a batch needs them.

use std::collections::BTreeSet;

use event_model::Hour;
use tokio_postgres::Client;

/// The days whose partitions this session knows to be there.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: BTreeSet<i64>,
}

/// The argument counts days since 1970-01-01.
const ENSURE: &str = "SELECT pipeline.ensure_partition(date '1970-01-01' + $1::integer)";

impl Partitions {
    /// Makes the partitions of the days that the hours fall in, each in a short transaction of its own.
    pub(super) async fn ensure(
        &mut self,
        client: &Client,
        hours: &BTreeSet<Hour>,
    ) -> Result<(), tokio_postgres::Error> {
        for day in hours.iter().map(|hour| hour.start().days()) {
            if self.known.contains(&day) {
                continue;
            }
            let number = i32::try_from(day).unwrap_or(i32::MAX);
            let made: bool = client.query_one(ENSURE, &[&number]).await?.get(0);
            if made {
                let date = event_model::Hour::from_hours(day * 24).date();
                tracing::info!(date, "partition created");
            }
            self.known.insert(day);
        }
        Ok(())
    }
}
