//! Looks up rows that are in the table already, by `event_id`.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::time::{Duration, SystemTime};

use event_model::{COPY_COLUMNS, read_copy_row};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use crate::ingest::batch::rows::Row;
use crate::ingest::offsets::corrections::RowState;

/// Finds duplicates: rows with an equal `event_id` within the UTC day, and in a distributed table also within the account,
/// as its unique index does. A row that violates another unique index is not a duplicate: COPY refuses it, and it becomes a
/// dead letter.
#[derive(Clone)]
pub(crate) struct Lookup {
    find: Statement,
    is_distributed: bool,
}

/// Maximum number of ids per query, which limits the size of the result.
const IDS: usize = 4_096;
const DAY: u64 = 86_400;

impl Lookup {
    pub(crate) async fn prepare(client: &Client, is_distributed: bool) -> Result<Self, tokio_postgres::Error> {
        // The bounds let PostgreSQL skip the table partitions of other days, and the accounts let Citus skip shards.
        let find = format!(
            "SELECT {} FROM staging.product_events_raw
             WHERE event_id = ANY ($1) AND event_timestamp >= $2 AND event_timestamp < $3{}",
            *COPY_COLUMNS,
            if is_distributed { " AND account_id = ANY ($4)" } else { "" }
        );
        Ok(Self { find: client.prepare(&find).await?, is_distributed })
    }

    /// Returns the state of each row. An unreadable row counts as new, so that COPY reports its error.
    pub(crate) async fn find(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'_>],
    ) -> Result<Vec<RowState>, tokio_postgres::Error> {
        let mut known = vec![RowState::New; rows.len()];
        let mut days: HashMap<i64, HashMap<Uuid, Vec<usize>>> = HashMap::new();
        for (index, row) in rows.iter().enumerate() {
            if let Some(event) = read_copy_row(row.bytes) {
                days.entry(event.event_timestamp.days()).or_default().entry(row.id).or_default().push(index);
            }
        }
        for (day, indexes) in &days {
            let ids: Vec<Uuid> = indexes.keys().copied().collect();
            let (from, to) = (start_of(*day), start_of(day + 1));
            for ids in ids.chunks(IDS) {
                let accounts = self.is_distributed.then(|| accounts_of(ids.iter().flat_map(|id| &indexes[id]), rows));
                let mut values: Vec<&(dyn ToSql + Sync)> = vec![&ids, &from, &to];
                values.extend(accounts.iter().map(|accounts| accounts as &(dyn ToSql + Sync)));
                for found in transaction.query(&self.find, &values).await? {
                    let old = copy_row(&found);
                    let id = found.try_get::<_, Uuid>(0).ok();
                    for index in id.and_then(|id| indexes.get(&id)).into_iter().flatten() {
                        if self.is_distributed && account_of(rows[*index].bytes) != account_of(&old) {
                            continue;
                        }
                        let same = known[*index] == RowState::Same || old == rows[*index].bytes;
                        known[*index] = if same { RowState::Same } else { RowState::Differing };
                    }
                }
            }
        }
        Ok(known)
    }
}

/// Returns the accounts of rows, given by their indices.
fn accounts_of<'i>(indices: impl Iterator<Item = &'i usize>, rows: &[Row<'_>]) -> Vec<i32> {
    let accounts = indices.filter_map(|index| account_of(rows[*index].bytes));
    accounts.collect::<BTreeSet<i32>>().into_iter().collect()
}

fn account_of(row: &[u8]) -> Option<i32> {
    Some(read_copy_row(row)?.account_id)
}

fn start_of(day: i64) -> SystemTime {
    let distance = Duration::from_secs(day.unsigned_abs().saturating_mul(DAY));
    if day < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// Value of a column in PostgreSQL's binary format, which binary COPY also uses.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Encodes a row of the table in the binary COPY format.
fn copy_row(row: &tokio_postgres::Row) -> Vec<u8> {
    let mut bytes = u16::try_from(row.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    for column in 0..row.len() {
        let value = row.try_get::<_, Option<Raw<'_>>>(column).ok().flatten();
        let length = value.as_ref().map_or(-1, |value| i32::try_from(value.0.len()).unwrap_or(i32::MAX));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value.map_or(&[], |value| value.0));
    }
    bytes
}

/// Splits rows, given by their indices, into the first row of each id and its repeats.
pub(crate) fn split_repeats(rows: &[Row<'_>], indices: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut seen = BTreeSet::<Uuid>::new();
    indices.iter().partition(|index| seen.insert(rows[**index].id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_before_1970_have_a_start_too() {
        assert_eq!(start_of(0), SystemTime::UNIX_EPOCH);
        assert_eq!(start_of(-1) + Duration::from_secs(DAY), SystemTime::UNIX_EPOCH);
        assert_eq!(start_of(2), SystemTime::UNIX_EPOCH + Duration::from_secs(2 * DAY));
    }
}
