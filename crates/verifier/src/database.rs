//! Reads the table, the dead letters and the offsets in one snapshot of PostgreSQL.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use uuid::Uuid;

use crate::Error;
use crate::event::Event;
use crate::field::{Kind, Scalar, fields};
use crate::ledger::Ledger;
use crate::letters::Bytes;
use crate::trace::RecordIndex;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The epoch of PostgreSQL's timestamps, 2000-01-01, in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The group's offset and counts in one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetRow {
    pub(crate) incarnation: i64,
    pub(crate) next_offset: i64,
    pub(crate) records: i64,
    pub(crate) rows_inserted: i64,
    pub(crate) duplicates: i64,
    pub(crate) dead_letters: i64,
    pub(crate) expired: i64,
    pub(crate) suppressed: i64,
}

impl OffsetRow {
    /// Subtracts earlier counts.
    fn since(self, earlier: &Self) -> Self {
        Self {
            records: self.records - earlier.records,
            rows_inserted: self.rows_inserted - earlier.rows_inserted,
            duplicates: self.duplicates - earlier.duplicates,
            dead_letters: self.dead_letters - earlier.dead_letters,
            expired: self.expired - earlier.expired,
            suppressed: self.suppressed - earlier.suppressed,
            ..self
        }
    }
}

/// Counts that a group stores with its offsets, by partition.
#[derive(Debug, Clone, Default)]
pub struct Counts(pub(crate) HashMap<i32, OffsetRow>);

impl Counts {
    /// Subtracts earlier counts.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        for (partition, row) in &mut self.0 {
            if let Some(earlier) = earlier.0.get(partition) {
                *row = row.since(earlier);
            }
        }
        self
    }
}

/// A connection with an open read-only snapshot.
pub(crate) struct Database {
    client: Client,
}

impl Database {
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        let fault = |cause| Error::Database { doing: "open a session", cause };
        let mut config: Config = url.parse().map_err(fault)?;
        config.connect_timeout(CONNECT_WITHIN).application_name("verifier");
        let (client, connection) = config.connect(NoTls).await.map_err(fault)?;
        tokio::spawn(connection);
        client
            .batch_execute("begin isolation level repeatable read read only; set local statement_timeout = 0")
            .await
            .map_err(|cause| Error::Database { doing: "begin a snapshot", cause })?;
        Ok(Self { client })
    }

    /// Returns the group's offset rows of a topic, by partition.
    pub(crate) async fn offsets(&self, group: &str, topic: &str) -> Result<Counts, Error> {
        let sql = "select partition::int, topic_incarnation::bigint, next_offset::bigint, records::bigint, \
                   rows_inserted::bigint, duplicates::bigint, dead_letters::bigint, expired::bigint, \
                   suppressed::bigint \
                   from pipeline.consumer_offsets where consumer_group = $1 and topic = $2";
        let fault = |cause| Error::Database { doing: "read pipeline.consumer_offsets", cause };
        let rows = self.client.query(sql, &[&group, &topic]).await.map_err(fault)?;
        rows.iter().map(offset_row).collect::<Result<_, _>>().map(Counts).map_err(fault)
    }

    /// Adds the group's dead letters of a topic to the ledger. `now` is the topic's current incarnation. Dead letters
    /// of an earlier incarnation count for their event only, because their offsets no longer exist.
    pub(crate) async fn letters(&self, group: &str, topic: &str, now: i64, ledger: &mut Ledger) -> Result<(), Error> {
        let sql = "select topic_incarnation::bigint, partition::int, \"offset\"::bigint, key, payload, header_names, \
                   header_values, reason_code, replayed_at is not null, discarded_at is not null \
                   from pipeline.dead_letters where consumer_group = $1 and topic = $2";
        let fault = |cause| Error::Database { doing: "read pipeline.dead_letters", cause };
        let rows = self.client.query_raw(sql, [group, topic]).await.map_err(fault)?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            enter_letter(&row, now, ledger).map_err(fault)?;
        }
        Ok(())
    }

    /// Adds all rows of the table to the ledger.
    pub(crate) async fn table(&self, ledger: &mut Ledger) -> Result<(), Error> {
        self.compare_columns().await?;
        let names: Vec<&str> = fields().iter().map(|field| field.name).collect();
        let sql =
            format!("copy (select {} from staging.product_events_raw) to stdout (format binary)", names.join(", "));
        let types: Vec<Type> = fields().iter().map(|field| type_of(field.kind)).collect();
        let fault = |cause| Error::Database { doing: "read staging.product_events_raw", cause };
        let stream = self.client.copy_out(&sql).await.map_err(fault)?;
        let mut rows = pin!(BinaryCopyOutStream::new(stream, &types));
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            let values = fields().iter().enumerate().map(|(place, field)| value_of(&row, place, field.kind));
            let values = values.collect::<Result<_, _>>().map_err(fault)?;
            ledger.table_row(&Event::of_values(values).ok_or_else(|| Error::Schema("it lacks a field".to_owned()))?);
        }
        Ok(())
    }

    /// Fails if the table has a column that is missing in the schema and would not be compared.
    async fn compare_columns(&self) -> Result<(), Error> {
        let sql = "select column_name::text from information_schema.columns where table_schema = 'staging' \
                   and table_name = 'product_events_raw' and is_generated = 'NEVER'";
        let fault = |cause| Error::Database { doing: "read the columns of staging.product_events_raw", cause };
        for row in self.client.query(sql, &[]).await.map_err(fault)? {
            let name: &str = row.try_get(0).map_err(fault)?;
            if name != INGESTED_AT && !fields().iter().any(|field| field.name == name) {
                return Err(Error::Schema(format!("it lacks {name}, a column of staging.product_events_raw")));
            }
        }
        Ok(())
    }
}

/// The only column that is not a field: the time at which the row was inserted.
const INGESTED_AT: &str = "ingested_at";

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Uuid => Type::UUID,
        Kind::Time => Type::TIMESTAMPTZ,
        Kind::Integer => Type::INT4,
        Kind::Text => Type::TEXT,
    }
}

fn value_of(row: &BinaryCopyOutRow, place: usize, kind: Kind) -> Result<Scalar<'_>, tokio_postgres::Error> {
    Ok(match kind {
        Kind::Uuid => Scalar::Uuid(row.try_get::<Uuid>(place)?.as_u128()),
        Kind::Time => Scalar::Time(row.try_get::<Micros>(place)?.0),
        Kind::Integer => Scalar::Integer(row.try_get(place)?),
        Kind::Text => Scalar::Text(row.try_get(place)?),
    })
}

fn offset_row(row: &Row) -> Result<(i32, OffsetRow), tokio_postgres::Error> {
    let offsets = OffsetRow {
        incarnation: row.try_get(1)?,
        next_offset: row.try_get(2)?,
        records: row.try_get(3)?,
        rows_inserted: row.try_get(4)?,
        duplicates: row.try_get(5)?,
        dead_letters: row.try_get(6)?,
        expired: row.try_get(7)?,
        suppressed: row.try_get(8)?,
    };
    Ok((row.try_get(0)?, offsets))
}

fn enter_letter(row: &Row, now: i64, ledger: &mut Ledger) -> Result<(), tokio_postgres::Error> {
    let names: Option<Vec<&str>> = row.try_get(5)?;
    let values: Option<Vec<Option<&[u8]>>> = row.try_get(6)?;
    let names = names.unwrap_or_default().into_iter().map(Cow::Borrowed);
    let headers = names.zip(values.unwrap_or_default()).collect();
    let bytes = Bytes { key: row.try_get(3)?, value: row.try_get(4)?, headers };
    let place = RecordIndex::new(row.try_get(1)?, row.try_get(2)?);
    ledger.letter(place, &bytes);
    if row.try_get::<_, i64>(0)? == now {
        ledger.letters.add(place, &bytes, row.try_get(9)?, row.try_get(8)?, row.try_get(7)?);
    }
    Ok(())
}

/// A timestamptz as microseconds since 1970.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(POSTGRES_EPOCH_MICROS)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
