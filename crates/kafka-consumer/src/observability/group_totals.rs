//! Totals of the group since its first start, from PostgreSQL. They outlive the process and cover all its consumers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::kafka::group_topic::GroupTopic;
use crate::postgres::{self, Conninfo};

/// Minimum time between two reads.
const BETWEEN: Duration = Duration::from_secs(5);
/// Timeout of a read.
const TIMEOUT: Duration = Duration::from_secs(5);

const TOTALS: &str = "SELECT coalesce(sum(records), 0)::bigint, coalesce(sum(rows_inserted), 0)::bigint,
        coalesce(sum(duplicates), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2";

/// Counts of all partitions of a group.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Totals {
    records: i64,
    rows: i64,
    duplicates: i64,
    dead_letters: i64,
}

/// The totals as last read. They are read only while someone looks at them.
#[derive(Debug, Default)]
pub(crate) struct GroupTotals {
    last: Mutex<Option<Totals>>,
    wanted: Notify,
}

impl GroupTotals {
    /// Returns the totals as last read, and requests newer ones. `None` while PostgreSQL does not answer.
    pub(crate) fn get(&self) -> Option<Totals> {
        self.wanted.notify_one();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the totals on request, until the future is dropped.
    pub(crate) async fn keep(&self, target: &Conninfo, group_topic: &GroupTopic) {
        loop {
            self.wanted.notified().await;
            let read = tokio::time::timeout(TIMEOUT, read(target, group_topic)).await;
            let totals = match read {
                Ok(Ok(totals)) => Some(totals),
                Ok(Err(error)) => {
                    tracing::debug!(error = postgres::describe(&error), "totals of the group not read");
                    None
                }
                Err(_) => None,
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = totals;
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

async fn read(target: &Conninfo, group_topic: &GroupTopic) -> Result<Totals, tokio_postgres::Error> {
    let client = postgres::connect(target).await?;
    let row = client.query_one(TOTALS, &[&group_topic.group, &group_topic.topic]).await?;
    Ok(Totals { records: row.get(0), rows: row.get(1), duplicates: row.get(2), dead_letters: row.get(3) })
}
