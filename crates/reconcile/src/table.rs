//! Reads the table, the dead letters and the offsets in PostgreSQL.

use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER, read_copy_row};
use futures_util::{TryStreamExt, future};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::run_under_test::RunUnderTest;
use crate::store::StoreContents;

/// The group's offset in a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupOffset {
    pub(crate) partition: i32,
    pub(crate) next_offset: i64,
    /// Number of records whose row a trigger suppressed.
    pub(crate) suppressed: i64,
}

/// The rows of the run.
pub(crate) struct Rows {
    pub(crate) store: StoreContents,
    /// First day that retention has kept, in days since 1970-01-01. `None` without a retention floor.
    pub(crate) floor: Option<i64>,
}

pub(crate) struct Table {
    group: String,
    topic: String,
    clients: Vec<Client>,
}

impl Table {
    /// Creates a reader. Returns `None` without a session.
    pub(crate) fn new(group: String, topic: String, clients: Vec<Client>) -> Option<Self> {
        if clients.is_empty() { None } else { Some(Self { group, topic, clients }) }
    }

    fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// Reads the group's dead letters of the topic's current incarnation.
    pub(crate) async fn letters(&self) -> anyhow::Result<DeadLetters> {
        let sql = r#"SELECT partition, "offset", payload, replayed_at IS NOT NULL, discarded_at IS NOT NULL
            FROM pipeline.dead_letters WHERE consumer_group = $1 AND topic = $2 AND topic_incarnation =
                (SELECT coalesce(max(topic_incarnation), 1) FROM pipeline.consumer_offsets
                 WHERE consumer_group = $1 AND topic = $2)"#;
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.group, &self.topic];
        let rows = self.client().query_raw(sql, parameters).await.context("cannot read the dead letters")?;
        let mut rows = pin!(rows);
        let mut letters = DeadLetters::default();
        while let Some(row) = rows.try_next().await.context("cannot read the dead letters")? {
            letters.add((row.get(0), row.get(1)), DeadLetter::new(row.get(2), row.get(3), row.get(4)));
        }
        Ok(letters)
    }

    pub(crate) async fn offsets(&self) -> anyhow::Result<Vec<GroupOffset>> {
        let sql = "SELECT partition, next_offset, suppressed FROM pipeline.consumer_offsets
            WHERE consumer_group = $1 AND topic = $2 ORDER BY partition";
        let rows = self.client().query(sql, &[&self.group, &self.topic]).await;
        let rows = rows.context("cannot read the offsets")?;
        let position =
            |row: &Row| GroupOffset { partition: row.get(0), next_offset: row.get(1), suppressed: row.get(2) };
        Ok(rows.iter().map(position).collect())
    }

    /// Reads the rows from one hour before the run's first hour with valid events to one hour after the last one, or
    /// all rows. The sessions read equal parts of that time in parallel.
    pub(crate) async fn rows(&self, run: &Arc<RunUnderTest>, all: bool) -> anyhow::Result<Rows> {
        let floor = "SELECT (max(floor) - date '1970-01-01')::bigint FROM pipeline.retention_floors";
        let floor = self.client().query_one(floor, &[]).await.context("cannot read the retention floor")?.get(0);
        let rows = Rows { store: StoreContents::of(run), floor };
        let hours = &run.manifest.counts.hours;
        let mut hours = hours.iter().filter(|(_, counts)| counts.outcomes.valid > 0).map(|(hour, _)| *hour);
        let Some(first) = hours.next() else { return Ok(rows) };
        let last = hours.next_back().unwrap_or(first);
        let (from, to) = (first.start().micros() - HOUR, last.end().micros() + HOUR);
        let (shares, sessions) = (self.clients.len(), i64::try_from(self.clients.len())?);
        let mut ends: Vec<i64> = (1..sessions).map(|position| from + (to - from) / sessions * position).collect();
        ends.insert(0, if all { i64::MIN } else { from });
        ends.push(if all { i64::MAX } else { to });
        let part =
            |position: usize| copy_out(&self.clients[position], ends[position], ends[position + 1], run, &rows.store);
        future::try_join_all((0..shares).map(part)).await?;
        Ok(rows)
    }
}

const HOUR: i64 = 3_600_000_000;

/// Reads the rows of a time range in microseconds since 1970, `to` excluded.
async fn copy_out(
    client: &Client,
    from: i64,
    to: i64,
    run: &RunUnderTest,
    store: &StoreContents,
) -> anyhow::Result<()> {
    const WHAT: &str = "cannot read the table";
    // COPY takes no parameters. The text has only numbers, so nothing needs quoting.
    let time = |micros: i64| match micros {
        i64::MIN => "'-infinity'".to_owned(),
        i64::MAX => "'infinity'".to_owned(),
        _ => format!("timestamptz 'epoch' + interval '1 microsecond' * {micros}::bigint"),
    };
    let sql = format!(
        "COPY (SELECT {} FROM staging.product_events_raw WHERE event_timestamp >= {} AND event_timestamp < {})
         TO STDOUT (FORMAT binary)",
        *COPY_COLUMNS,
        time(from),
        time(to)
    );
    let mut stream = pin!(client.copy_out(&sql).await.context(WHAT)?);
    let mut buffer = BytesMut::new();
    let mut header = COPY_HEADER.len();
    while let Some(bytes) = stream.try_next().await.context(WHAT)? {
        let bytes = skip(bytes, &mut header);
        // PostgreSQL sends one row per message, but a proxy may divide the data differently.
        if buffer.is_empty() && row_length(&bytes) == Some(bytes.len()) {
            observe(&bytes, run, store)?;
            continue;
        }
        buffer.extend_from_slice(&bytes);
        while let Some(length) = row_length(&buffer) {
            observe(&buffer.split_to(length), run, store)?;
        }
    }
    anyhow::ensure!(buffer.as_ref() == COPY_TRAILER, "{WHAT}: incomplete answer from PostgreSQL");
    Ok(())
}

fn skip(mut bytes: Bytes, header: &mut usize) -> Bytes {
    let some = (*header).min(bytes.len());
    bytes.advance(some);
    *header -= some;
    bytes
}

/// Returns the length of the first row. Returns `None` if the row is incomplete or is the trailer of the COPY.
fn row_length(bytes: &[u8]) -> Option<usize> {
    let (fields, mut rest) = bytes.split_first_chunk::<2>()?;
    for _ in 0..u16::try_from(i16::from_be_bytes(*fields)).ok()? {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // A null has the length -1 and no bytes.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        rest = after.get(length..)?;
    }
    Some(bytes.len() - rest.len())
}

fn observe(row: &[u8], run: &RunUnderTest, store: &StoreContents) -> anyhow::Result<()> {
    let event = read_copy_row(row).context("invalid event in the table: a null or a malformed value")?;
    store.observe(run, &event, || format!("table, day {}", &event.event_timestamp.to_string()[..10]));
    Ok(())
}
