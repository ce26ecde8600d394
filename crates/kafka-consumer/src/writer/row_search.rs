//! The careful way in: some rows are there already, are refused by PostgreSQL, or belong to days that retention has taken.
//! Each goes where it belongs, and all others go in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use event_model::{COPY_COLUMNS, read_copy_row};
use tokio_postgres::{Client, Statement, Transaction};

use super::breaker::Breaker;
use super::moves::Corrections;
use super::transaction::{Attempt, copy};
use crate::batch::{Batch, Part, Refused};
use crate::dead_letter::DeadLetter;
use crate::postgres::{SqlFault, classify, describe};
use crate::rows::Row;
use crate::source::{Reread, RereadError};

/// Statements on the session's temporary table.
pub(super) struct RowSearch {
    copy: Statement,
    insert: Statement,
    count_differing: Statement,
    empty: Statement,
}

/// What was found about a batch's rows.
#[derive(Default)]
pub(super) struct Found {
    pub(super) corrections: BTreeMap<i32, Corrections>,
    pub(super) refused: Vec<RefusedRow>,
}

/// A row that PostgreSQL refuses by itself.
pub(super) struct RefusedRow {
    pub(super) partition: i32,
    pub(super) offset: i64,
    place: u64,
    pub(super) sqlstate: String,
    pub(super) reason: String,
}

impl RefusedRow {
    /// Its record, read from Kafka once more, as the dead letter that it becomes.
    pub(super) async fn letter(self, reread: &Reread) -> Result<Refused, RereadError> {
        let Self { partition, offset, place, sqlstate, reason } = self;
        let letter = reread.record(partition, offset, move |record| {
            DeadLetter::refused_by_postgres(record, sqlstate.clone(), &reason)
        });
        Ok(Refused { letter: letter.await?, place })
    }
}

impl RowSearch {
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let columns = COPY_COLUMNS.as_str();
        client
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS staged ON COMMIT DELETE ROWS
                 AS SELECT {columns} FROM staging.product_events_raw WITH NO DATA"
            ))
            .await?;
        // Rows that went in just now find themselves; so a staged row that finds nothing like it met another content.
        let differing = format!(
            "SELECT count(*) FROM pg_temp.staged AS new WHERE NOT EXISTS (
                 SELECT FROM staging.product_events_raw AS old
                 WHERE old.event_id = new.event_id AND old.event_timestamp = new.event_timestamp
                   AND ({}) = ({}))",
            prefixed("old"),
            prefixed("new")
        );
        let insert = format!(
            "INSERT INTO staging.product_events_raw ({columns}) SELECT {columns} FROM pg_temp.staged ON CONFLICT DO NOTHING"
        );
        Ok(Self {
            copy: client.prepare(&format!("COPY pg_temp.staged ({columns}) FROM STDIN (FORMAT binary)")).await?,
            insert: client.prepare(&insert).await?,
            count_differing: client.prepare(&differing).await?,
            empty: client.prepare("TRUNCATE pg_temp.staged").await?,
        })
    }

    /// Brings in a batch's rows. The one that is suspected, as its partition and place there, is looked at first. Gives up
    /// looking when more rows are refused than are borne: that is a flood, whatever the rest is.
    pub(super) async fn bring_in(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        suspected: Option<(i32, usize)>,
        expired: &BTreeSet<i64>,
        breaker: &Breaker,
    ) -> Result<Found, Attempt> {
        let mut found = Found::default();
        let mut place = 0;
        for (&partition, part) in &batch.parts {
            let (rows, corrections) = living_rows(part, expired);
            found.corrections.insert(partition, corrections);
            let suspected = suspected.filter(|(at, row)| *at == partition && *row < rows.len()).map(|(_, row)| row);
            let first = part.rows.iter().next().map_or(0, |row| row.offset);
            self.search(transaction, partition, &rows, suspected, &mut found, breaker).await?;
            for refused in found.refused.iter_mut().filter(|one| one.partition == partition) {
                let nth = refused.offset.saturating_sub(first).unsigned_abs().min(part.records.saturating_sub(1));
                refused.place = place + nth;
            }
            place += part.records;
        }
        Ok(found)
    }

    /// Inserts the rows; what PostgreSQL refuses is halved until the row stands alone.
    async fn search(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        rows: &[Row<'_>],
        suspected: Option<usize>,
        found: &mut Found,
        breaker: &Breaker,
    ) -> Result<(), Attempt> {
        let mut todo = Vec::new();
        split(rows, suspected, &mut todo);
        while let Some(rows) = todo.pop() {
            let corrections = found.corrections.entry(partition).or_default();
            transaction.batch_execute("SAVEPOINT row_search").await?;
            match self.insert(transaction, rows).await {
                Ok((duplicates, differing)) => {
                    transaction.batch_execute("RELEASE SAVEPOINT row_search").await?;
                    corrections.duplicates += duplicates;
                    corrections.differing += differing;
                }
                Err(error) if classify(&error) == SqlFault::PerRow => {
                    if found.refused.len() as u64 > breaker.most() {
                        let offset = rows.first().map_or(-1, |row| row.offset);
                        return Err(Attempt::Flood(breaker.flood(partition, offset, describe(&error))));
                    }
                    transaction.batch_execute("ROLLBACK TO SAVEPOINT row_search; RELEASE SAVEPOINT row_search").await?;
                    if let [row] = rows {
                        corrections.refused += 1;
                        let sqlstate = error.code().map_or_else(String::new, |state| state.code().to_owned());
                        let (offset, reason) = (row.offset, describe(&error));
                        found.refused.push(RefusedRow { partition, offset, place: 0, sqlstate, reason });
                    } else {
                        let suspected = postgres_line(&error)
                            .and_then(|line| line.checked_sub(1))
                            .filter(|line| *line < rows.len());
                        split(rows, Some(suspected.unwrap_or(rows.len() / 2)), &mut todo);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Inserts what is new of some rows. Returns how many were there already, and how many of those with other content.
    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'_>],
    ) -> Result<(u64, u64), tokio_postgres::Error> {
        let bytes = rows.iter().fold(BytesMut::new(), |mut bytes, row| {
            bytes.extend_from_slice(row.bytes);
            bytes
        });
        transaction.execute(&self.empty, &[]).await?;
        copy(transaction, &self.copy, bytes.freeze()).await?;
        let inserted = transaction.execute(&self.insert, &[]).await?;
        // What is only checked at the end of a transaction is checked here, where the row can still be found.
        transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let duplicates = (rows.len() as u64).saturating_sub(inserted);
        if duplicates == 0 {
            return Ok((0, 0));
        }
        let differing: i64 = transaction.query_one(&self.count_differing, &[]).await?.get(0);
        Ok((duplicates, differing.unsigned_abs()))
    }
}

/// The rows of a part but those of days that retention has taken, which are counted.
fn living_rows<'a>(part: &'a Part, expired: &BTreeSet<i64>) -> (Vec<Row<'a>>, Corrections) {
    let lives = |row: &Row<'_>| {
        expired.is_empty()
            || read_copy_row(row.bytes).is_none_or(|event| !expired.contains(&event.event_timestamp.days()))
    };
    let living: Vec<Row<'a>> = part.rows.iter().filter(lives).collect();
    let expired = part.rows.count() - living.len() as u64;
    (living, Corrections { expired, ..Corrections::default() })
}

/// Cuts rows at the one that is suspected: what is before it, itself, what comes after. Without a suspect all stay
/// together.
fn split<'a, 'r>(rows: &'a [Row<'r>], suspected: Option<usize>, todo: &mut Vec<&'a [Row<'r>]>) {
    let mut pieces = match suspected {
        None => vec![rows],
        Some(at) => {
            let (before, rest) = rows.split_at(at.min(rows.len()));
            let (itself, after) = rest.split_at(rest.len().min(1));
            vec![after, itself, before]
        }
    };
    pieces.retain(|piece| !piece.is_empty());
    todo.append(&mut pieces);
}

/// The line that COPY was at, counted from 1, from an error's context: `COPY product_events_raw, line 17, column …`.
pub(super) fn postgres_line(error: &tokio_postgres::Error) -> Option<usize> {
    let context = error.as_db_error()?.where_()?;
    let copy = context.lines().find(|line| line.starts_with("COPY "))?;
    let (_, rest) = copy.split_once(", line ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn prefixed(table: &str) -> String {
    COPY_COLUMNS.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}
