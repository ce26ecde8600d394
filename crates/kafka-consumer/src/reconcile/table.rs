//! The table, the dead letters and the offsets.

use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER, read_copy_row};
use futures_util::{TryStreamExt, future};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::kafka::group_topic::GroupTopic;
use crate::postgres::{self, Conninfo};
use crate::reconcile::letters::{Letter, Letters};
use crate::reconcile::store::Store;
use crate::reconcile::subject::Subject;

/// Sessions that read rows side by side.
const SESSIONS: usize = 2;

/// Where the group stands in a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) partition: i32,
    pub(crate) next_offset: i64,
    /// Records whose row a trigger suppressed.
    pub(crate) suppressed: i64,
}

/// The rows of the run.
pub(crate) struct Rows {
    pub(crate) store: Store,
    /// The first day that retention has left, in days since 1970-01-01.
    pub(crate) floor: Option<i64>,
}

pub(crate) struct Table {
    group_topic: GroupTopic,
    clients: Vec<Client>,
}

impl Table {
    pub(crate) async fn open(target: &Conninfo, group_topic: &GroupTopic) -> anyhow::Result<Self> {
        let clients = future::try_join_all((0..SESSIONS).map(|_| connect(target))).await?;
        Ok(Self { group_topic: group_topic.clone(), clients })
    }

    fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// The group's letters of the topic as it is now.
    pub(crate) async fn letters(&self) -> anyhow::Result<Letters> {
        let sql = r#"SELECT partition, "offset", payload, replayed_at IS NOT NULL, discarded_at IS NOT NULL
            FROM pipeline.dead_letters WHERE consumer_group = $1 AND topic = $2 AND topic_incarnation =
                (SELECT coalesce(max(topic_incarnation), 1) FROM pipeline.consumer_offsets
                 WHERE consumer_group = $1 AND topic = $2)"#;
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.group_topic.group, &self.group_topic.topic];
        let rows = self.client().query_raw(sql, parameters).await.context("the dead letters cannot be read")?;
        let mut rows = pin!(rows);
        let mut letters = Letters::default();
        while let Some(row) = rows.try_next().await.context("the dead letters cannot be read")? {
            letters.add((row.get(0), row.get(1)), Letter::new(row.get(2), row.get(3), row.get(4)));
        }
        Ok(letters)
    }

    pub(crate) async fn offsets(&self) -> anyhow::Result<Vec<Position>> {
        let sql = "SELECT partition, next_offset, suppressed FROM pipeline.consumer_offsets
            WHERE consumer_group = $1 AND topic = $2 ORDER BY partition";
        let rows = self.client().query(sql, &[&self.group_topic.group, &self.group_topic.topic]).await;
        let rows = rows.context("the offsets cannot be read")?;
        let position = |row: &Row| Position { partition: row.get(0), next_offset: row.get(1), suppressed: row.get(2) };
        Ok(rows.iter().map(position).collect())
    }

    /// Reads the rows of all hours in which the run has valid events, and of the hours beside them; or all rows.
    pub(crate) async fn rows(&self, subject: &Arc<Subject>, all: bool) -> anyhow::Result<Rows> {
        let floor = "SELECT (max(floor) - date '1970-01-01')::bigint FROM pipeline.retention_floors";
        let floor = self.client().query_one(floor, &[]).await.context("retention's floor cannot be read")?.get(0);
        let rows = Rows { store: Store::of(subject), floor };
        let hours = &subject.manifest.counts.hours;
        let mut hours = hours.iter().filter(|(_, counts)| counts.outcomes.valid > 0).map(|(hour, _)| *hour);
        let Some(first) = hours.next() else { return Ok(rows) };
        let last = hours.next_back().unwrap_or(first);
        let (from, to) = (first.start().micros() - HOUR, last.end().micros() + HOUR);
        let (shares, sessions) = (self.clients.len(), i64::try_from(self.clients.len())?);
        let mut ends: Vec<i64> = (1..sessions).map(|place| from + (to - from) / sessions * place).collect();
        ends.insert(0, if all { i64::MIN } else { from });
        ends.push(if all { i64::MAX } else { to });
        let part = |place: usize| copy_out(&self.clients[place], ends[place], ends[place + 1], subject, &rows.store);
        future::try_join_all((0..shares).map(part)).await?;
        Ok(rows)
    }
}

const HOUR: i64 = 3_600_000_000;

/// Reads rows by their time, in microseconds since 1970, the end left out.
async fn copy_out(client: &Client, from: i64, to: i64, subject: &Subject, store: &Store) -> anyhow::Result<()> {
    const WHAT: &str = "the table cannot be read";
    // Numbers only: COPY takes no parameters.
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
        // PostgreSQL sends a row in a message; whatever is between us may cut them otherwise.
        if buffer.is_empty() && row_length(&bytes) == Some(bytes.len()) {
            see(&bytes, subject, store)?;
            continue;
        }
        buffer.extend_from_slice(&bytes);
        while let Some(length) = row_length(&buffer) {
            see(&buffer.split_to(length), subject, store)?;
        }
    }
    anyhow::ensure!(buffer.as_ref() == COPY_TRAILER, "{WHAT}: PostgreSQL's answer is cut off");
    Ok(())
}

fn skip(mut bytes: Bytes, header: &mut usize) -> Bytes {
    let some = (*header).min(bytes.len());
    bytes.advance(some);
    *header -= some;
    bytes
}

/// The length of the row that the bytes begin with; none where it is not whole, and for what ends the rows.
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

fn see(row: &[u8], subject: &Subject, store: &Store) -> anyhow::Result<()> {
    let event = read_copy_row(row).context("the table has a row that is no event: a null, or text that is no value")?;
    store.see(subject, &event, || format!("the table, day {}", &event.event_timestamp.to_string()[..10]));
    Ok(())
}

/// A session that nobody takes for a consumer's.
async fn connect(target: &Conninfo) -> anyhow::Result<tokio_postgres::Client> {
    Ok(postgres::connect(&target.named("event-pipeline reconcile")).await?)
}
