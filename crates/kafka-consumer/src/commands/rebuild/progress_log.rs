//! Keeps track of the files that a rebuild has loaded, in PostgreSQL.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use event_model::Hour;
use tokio_postgres::Client;

use crate::commands::rebuild::outcome::HourRange;

/// A rebuild in progress. Its session holds the lock that excludes a second rebuild.
pub(crate) struct ProgressLog {
    client: Client,
    id: i64,
    began: SystemTime,
}

/// `$2` and `$3` are seconds since 1970, the result is in microseconds.
const BEGUN: &str = "SELECT id, (extract(epoch FROM started_at) * 1000000)::bigint FROM pipeline.rebuilds
    WHERE lake = $1 AND from_hour IS NOT DISTINCT FROM to_timestamp($2::bigint)
      AND to_hour IS NOT DISTINCT FROM to_timestamp($3::bigint) AND finished_at IS NULL
    ORDER BY id DESC LIMIT 1";
const BEGIN: &str = "INSERT INTO pipeline.rebuilds (lake, from_hour, to_hour)
    VALUES ($1, to_timestamp($2::bigint), to_timestamp($3::bigint))
    RETURNING id, (extract(epoch FROM started_at) * 1000000)::bigint";

impl ProgressLog {
    /// Resumes an unfinished rebuild of the same lake and hours, or starts a new one.
    pub(crate) async fn open(client: Client, lake: &str, hours: HourRange) -> anyhow::Result<Self> {
        let lock = "SELECT pg_try_advisory_lock(hashtextextended('event-pipeline: rebuild', 0))";
        if !client.query_one(lock, &[]).await?.get::<_, bool>(0) {
            bail!("cannot rebuild: another rebuild of this warehouse is running; wait for it to finish");
        }
        let [from, to] = [hours.from, hours.to].map(|hour| hour.map(seconds));
        let begun = client.query_opt(BEGUN, &[&lake, &from, &to]).await.context("cannot read earlier rebuilds")?;
        let row = match begun {
            Some(row) => row,
            None => client.query_one(BEGIN, &[&lake, &from, &to]).await.context("cannot record the rebuild")?,
        };
        let since_1970 = Duration::from_micros(u64::try_from(row.get::<_, i64>(1)).unwrap_or(0));
        Ok(Self { client, id: row.get(0), began: SystemTime::UNIX_EPOCH + since_1970 })
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// Returns the start of the first attempt, by PostgreSQL's clock.
    pub(crate) fn began(&self) -> SystemTime {
        self.began
    }

    /// Returns the keys of the loaded files.
    pub(crate) async fn done(&self) -> anyhow::Result<BTreeSet<String>> {
        let sql = "SELECT key FROM pipeline.rebuilt_files WHERE rebuild_id = $1";
        let rows = self.client.query(sql, &[&self.id]).await.context("cannot read the list of loaded files")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Records that the rebuild is complete. The next one starts from the beginning.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        let sql = "UPDATE pipeline.rebuilds SET finished_at = now() WHERE id = $1";
        self.client
            .execute(sql, &[&self.id])
            .await
            .context("all rows are loaded, but the rebuild cannot be recorded as finished")?;
        Ok(())
    }
}

fn seconds(hour: Hour) -> i64 {
    hour.start().micros() / 1_000_000
}
