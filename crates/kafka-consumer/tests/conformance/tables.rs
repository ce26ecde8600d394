//! Tables of PostgreSQL, and those that the model expects.

use std::collections::{BTreeMap, BTreeSet};

use ingest_protocol::position::RecordPosition;
use ingest_protocol::settlement::StoredOffset;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::TOPIC;
use crate::model::World;
use crate::model::postgres::{Fate, event};

/// First incarnation in PostgreSQL. The model counts from 0.
pub(crate) const FIRST_INCARNATION: i32 = 1;

/// Row of `pipeline.consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    stored: StoredOffset,
    records: i64,
    /// Rows, duplicates and dead letters.
    counts: [i64; 3],
}

/// Committed tables, and locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    offsets: BTreeMap<i32, Offset>,
    /// Events of the rows. The table may have an event twice.
    events: Vec<u8>,
    /// Partitions and offsets of the dead letters.
    dead_letters: Vec<(i32, i64)>,
    /// Partitions whose offset a transaction has locked.
    pub(crate) locked: BTreeSet<i32>,
}

impl Tables {
    pub(crate) fn of(world: &World) -> Self {
        let tables = &world.postgres.tables;
        let offset = |(partition, row): (&i32, &crate::model::postgres::OffsetRow)| {
            let counts = row.counts.map(i64::from);
            (*partition, Offset { stored: row.stored, records: row.records.into(), counts })
        };
        let with = |wanted: Fate| tables.fates.iter().filter(move |(_, fate)| **fate == wanted).map(|(key, _)| *key);
        let mut events: Vec<u8> = with(Fate::Row).filter_map(|key| event(&key)).collect();
        let mut dead_letters: Vec<(i32, i64)> =
            with(Fate::DeadLetter).map(|(_, partition, offset)| (partition, offset)).collect();
        events.sort_unstable();
        dead_letters.sort_unstable();
        Self {
            offsets: tables.offsets.iter().map(offset).collect(),
            events,
            dead_letters,
            locked: world.postgres.open.iter().flat_map(|one| one.offsets.keys().copied()).collect(),
        }
    }
}

/// Tables of one trace, which has a group, a user and IDs of its own.
pub(crate) struct Database {
    client: Client,
    pub(crate) group: String,
    trace: i32,
}

impl Database {
    pub(crate) async fn open(url: &str, trace: i32) -> Result<Self, Error> {
        let client = crate::support::connect_to(url).await?;
        Ok(Self { client, group: format!("trace {trace}"), trace })
    }

    pub(crate) fn user(&self) -> i32 {
        self.trace + 1
    }

    /// Returns the ID of an event of the model. IDs are in the order of the model's events.
    pub(crate) fn event_id(&self, event: u8) -> Uuid {
        Uuid::from_u64_pair(u64::from(self.trace.unsigned_abs()) + 1, event.into())
    }

    pub(crate) async fn tables(&self) -> Result<Tables, Error> {
        let mut offsets = BTreeMap::new();
        let rows = self.client.query(OFFSETS, &[&self.group]).await?;
        for row in rows {
            let last: (Option<i64>, Option<i64>) = (row.get(3), row.get(4));
            let last = last.0.zip(last.1).map(|(offset, fingerprint)| RecordPosition { offset, fingerprint });
            let incarnation = row.get::<_, i32>(2) - FIRST_INCARNATION;
            let stored = StoredOffset { next_offset: row.get(1), incarnation, last };
            let counts = [row.get(6), row.get(7), row.get(8)];
            offsets.insert(row.get(0), Offset { stored, records: row.get(5), counts });
        }
        let unlocked: BTreeSet<i32> =
            self.client.query(UNLOCKED, &[&self.group]).await?.iter().map(|row| row.get(0)).collect();
        let ids = self.client.query(EVENTS, &[&self.user()]).await?;
        let event = |row: &tokio_postgres::Row| row.get::<_, Uuid>(0).as_u64_pair().1.try_into().unwrap_or(u8::MAX);
        let letters = self.client.query(DEAD_LETTERS, &[&self.group]).await?;
        Ok(Tables {
            locked: offsets.keys().copied().filter(|partition| !unlocked.contains(partition)).collect(),
            offsets,
            events: ids.iter().map(event).collect(),
            dead_letters: letters.iter().map(|row| (row.get(0), row.get(1))).collect(),
        })
    }

    /// Inserts and renews offsets like the start of an assignment, which is not under test.
    pub(crate) async fn locate(&self, before: &World, after: &World) -> Result<(), Error> {
        for (partition, row) in &after.postgres.tables.offsets {
            let sql = match before.postgres.tables.offsets.get(partition) {
                None => INSERT,
                Some(former) if former.stored.incarnation < row.stored.incarnation => RENEW,
                Some(_) => continue,
            };
            self.client.execute(sql, &[&self.group, &TOPIC, partition]).await?;
        }
        Ok(())
    }

    /// Returns true if a session waits for a lock.
    pub(crate) async fn waits(&self, port: u16) -> Result<bool, Error> {
        let row = self.client.query_opt(WAITS, &[&i32::from(port)]).await?;
        Ok(row.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true)))
    }

    pub(crate) async fn terminate(&self, port: u16) -> Result<(), Error> {
        self.client.execute(TERMINATE, &[&i32::from(port)]).await.map(drop)
    }

    /// Returns true if a session exists.
    pub(crate) async fn exists(&self, port: u16) -> Result<bool, Error> {
        Ok(self.client.query_opt(WAITS, &[&i32::from(port)]).await?.is_some())
    }
}

const OFFSETS: &str = "SELECT partition, next_offset, topic_incarnation, fingerprint_offset, fingerprint, records,
        rows_inserted, duplicates, dead_letters
    FROM pipeline.consumer_offsets WHERE consumer_group = $1";
const UNLOCKED: &str =
    "SELECT partition FROM pipeline.consumer_offsets WHERE consumer_group = $1 FOR UPDATE SKIP LOCKED";
const EVENTS: &str = "SELECT event_id FROM staging.product_events_raw WHERE user_id = $1 ORDER BY event_id";
/// A dead letter that was inserted twice has two attempts, and is missing here.
const DEAD_LETTERS: &str = r#"SELECT partition, "offset" FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND attempts = 1 ORDER BY partition, "offset""#;
const INSERT: &str =
    "INSERT INTO pipeline.consumer_offsets (consumer_group, topic, partition, next_offset) VALUES ($1, $2, $3, 0)";
const RENEW: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = 0, fingerprint = NULL, fingerprint_offset = NULL, topic_incarnation = topic_incarnation + 1
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3";
const WAITS: &str = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE client_port = $1";
const TERMINATE: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE client_port = $1";
