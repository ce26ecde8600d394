//! Inserts a batch with duplicates, refused rows, or rows of days that retention has dropped. These are counted or
//! returned, and all others go in.

use std::collections::{BTreeMap, BTreeSet};

use event_model::read_copy_row;
use tokio_postgres::{Client, Statement, Transaction};

use super::breaker::Breaker;
use super::lookup::{Known, Lookup};
use super::moves::Corrections;
use super::refusals::RefusedRow;
use super::suspects::firsts;
use super::transaction::{Attempt, bytes_of, copy, copy_statement};
use crate::batch::{Batch, Refused};
use crate::postgres::{Phase, PhaseError, Repeats, SqlFault, describe, needs_contrast};
use crate::rows::Row;

/// The statements for it.
#[derive(Clone)]
pub(super) struct RowSearch {
    copy: Statement,
    lookup: Lookup,
}

/// Everything but the rows that an insert depends on.
pub(super) struct Terms<'a> {
    /// Days that retention has dropped, counted from 1970-01-01.
    pub(super) expired: &'a BTreeSet<i64>,
    /// Rows that were refused before, in the order of partition and offset.
    pub(super) refused: &'a [(i32, Refused)],
    /// Transient errors that have repeated.
    pub(super) repeats: &'a Repeats,
    /// Limit of dead letters, and the most that the batch can have under it: more refused rows end the search.
    pub(super) breaker: &'a Breaker,
    pub(super) most: u64,
    /// Begin with pieces: some row is refused for sure.
    pub(super) in_pieces: bool,
    /// Bytes of refusals after which the search ends; the rest of the batch is left for another one.
    pub(super) budget: usize,
}

/// Outcome of a batch's rows.
#[derive(Default)]
pub(super) struct Found {
    pub(super) corrections: BTreeMap<i32, Corrections>,
    pub(super) refused: Vec<RefusedRow>,
    /// Bytes that the refusals hold.
    bytes: usize,
    /// Rows that went in or were suppressed.
    passed: usize,
    /// Refused rows whose error may be the server's state, and the first such error.
    doubtful: usize,
    doubt: Option<PhaseError>,
}

impl Found {
    /// Without a row that passed, an error that any row may meet is not a row's.
    fn has_no_contrast(&self) -> bool {
        self.doubtful > 0 && self.passed == 0
    }
}

/// Number of rows per COPY while refused rows are searched for.
const PIECE: usize = 512;

/// Number of single rows that fail with a transient error, and none that passes, before the search gives up.
const WITHOUT_CONTRAST: usize = 16;

impl RowSearch {
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { copy: client.prepare(&copy_statement()).await?, lookup: Lookup::prepare(client).await? })
    }

    pub(super) const fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    pub(super) const fn copy(&self) -> &Statement {
        &self.copy
    }

    /// Inserts a batch's rows but those that were refused before. The rows that are refused now are returned, all others
    /// are in the transaction.
    pub(super) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        terms: &Terms<'_>,
    ) -> Result<Found, Attempt> {
        let mut found = Found::default();
        for partition in batch.parts.keys() {
            let mut pending = unsettled_rows(batch, *partition, terms, &mut found);
            while !pending.is_empty() && found.bytes < terms.budget {
                let corrections = found.corrections.entry(*partition).or_default();
                let new = self.leave_out_duplicates(transaction, &pending, corrections).await?;
                // A copy of a row in the same batch waits until it is known what became of the first one.
                let (first, later) = firsts(&new, &(0..new.len()).collect::<Vec<_>>());
                let rows = first.iter().map(|place| new[*place]).collect();
                self.insert_distinct(transaction, *partition, rows, terms, &mut found).await?;
                pending = later.iter().map(|place| new[*place]).collect();
            }
        }
        match found.doubt.take() {
            Some(error) if found.has_no_contrast() => Err(Attempt::NoContrast(error.error)),
            _ => Ok(found),
        }
    }

    /// Counts the rows whose `event_id` is in the table. Returns the others.
    async fn leave_out_duplicates<'r>(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row<'r>],
        corrections: &mut Corrections,
    ) -> Result<Vec<Row<'r>>, Attempt> {
        let known = self.lookup.find(transaction, rows).await?;
        for known in &known {
            corrections.add(*known);
        }
        Ok(rows.iter().zip(known).filter(|(_, known)| *known == Known::New).map(|(row, _)| *row).collect())
    }

    /// Inserts rows with ids that differ, piece by piece; pieces that fail are cut until a refused row stands first.
    async fn insert_distinct(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        mut rows: Vec<Row<'_>>,
        terms: &Terms<'_>,
        found: &mut Found,
    ) -> Result<(), Attempt> {
        let mut size = if terms.in_pieces { PIECE } else { rows.len() };
        let mut done = 0;
        while done < rows.len() && found.bytes < terms.budget {
            let piece = &rows[done..rows.len().min(done + size)];
            let error = match self.insert_piece(transaction, piece).await {
                Ok(inserted) => {
                    let suppressed = (piece.len() as u64).saturating_sub(inserted);
                    found.corrections.entry(partition).or_default().suppressed += suppressed;
                    found.passed += piece.len();
                    done += piece.len();
                    size = size.saturating_mul(2).min(PIECE);
                    continue;
                }
                Err(error) if terms.repeats.classify(&error) == SqlFault::Row => error,
                Err(error) => return Err(Attempt::Failed(error)),
            };
            transaction.batch_execute("ROLLBACK TO SAVEPOINT piece; RELEASE SAVEPOINT piece").await?;
            if let Some(shorter) = shorter(piece.len(), line_of(&error.error)) {
                size = shorter;
                continue;
            }
            size = (size / 2).max(1);
            if is_unique_violation(&error) {
                // Another session may have inserted rows with these ids since they were looked up.
                let corrections = found.corrections.entry(partition).or_default();
                let new = self.leave_out_duplicates(transaction, piece, corrections).await?;
                let is_duplicate = new.first().is_none_or(|row| row.offset != piece[0].offset);
                let len = piece.len();
                rows.splice(done..done + len, new);
                if is_duplicate {
                    continue;
                }
            }
            let row = rows[done];
            done += 1;
            refuse(partition, row, error, terms, found)?;
        }
        Ok(())
    }

    /// Inserts rows within a savepoint of their own, which stands if they fail. Returns the number of rows that are in.
    async fn insert_piece(&self, transaction: &Transaction<'_>, rows: &[Row<'_>]) -> Result<u64, PhaseError> {
        transaction.batch_execute("SAVEPOINT piece").await?;
        let inserted = copy(transaction, &self.copy, bytes_of(rows)).await?;
        // Deferred constraints are checked here, where the row can still be found.
        let checked = transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT piece").await;
        checked.map_err(|error| PhaseError { error, phase: Phase::Rows })?;
        Ok(inserted)
    }
}

/// Notes a refused row. Fails if there are more than the limit bears, or if no row passes at all.
fn refuse(
    partition: i32,
    row: Row<'_>,
    error: PhaseError,
    terms: &Terms<'_>,
    found: &mut Found,
) -> Result<(), Attempt> {
    let reason = describe(&error.error);
    if found.refused.len() as u64 >= terms.most {
        return Err(Attempt::Flood(terms.breaker.flood(partition, row.offset, reason)));
    }
    let sqlstate = error.error.code().map_or("", |state| state.code());
    let refused = RefusedRow::new(partition, row.offset, sqlstate, &reason);
    found.bytes += refused.size();
    found.refused.push(refused);
    found.corrections.entry(partition).or_default().refused += 1;
    if needs_contrast(&error.error) {
        found.doubtful += 1;
        if found.doubtful >= WITHOUT_CONTRAST && found.has_no_contrast() {
            return Err(Attempt::NoContrast(error.error));
        }
        found.doubt.get_or_insert(error);
    }
    Ok(())
}

/// Returns the rows of a part to insert. Counts the rows of dropped days and the rows that were refused before.
fn unsettled_rows<'b>(batch: &'b Batch, partition: i32, terms: &Terms<'_>, found: &mut Found) -> Vec<Row<'b>> {
    let corrections = found.corrections.entry(partition).or_default();
    let mut rows = Vec::new();
    for row in batch.parts.get(&partition).into_iter().flat_map(|part| part.rows.iter()) {
        let place = (partition, row.offset);
        let is_expired =
            || read_copy_row(row.bytes).is_some_and(|event| terms.expired.contains(&event.event_timestamp.days()));
        if terms.refused.binary_search_by_key(&place, |(of, one)| (*of, one.letter.offset)).is_ok() {
            corrections.refused += 1;
        } else if !terms.expired.is_empty() && is_expired() {
            corrections.expired += 1;
        } else {
            rows.push(row);
        }
    }
    rows
}

/// Returns the number of rows to try next after a piece failed, or `None` if its first row is the refused one. COPY
/// accepted the rows before the line that it names.
fn shorter(rows: usize, line: Option<usize>) -> Option<usize> {
    match line {
        Some(line) if (1..=rows).contains(&line) => Some(line - 1).filter(|before| *before > 0),
        _ if rows <= 1 => None,
        _ => Some((rows / 2).min(PIECE)),
    }
}

fn is_unique_violation(error: &PhaseError) -> bool {
    error.error.code().is_some_and(|state| state.code() == "23505")
}

/// Returns the line that COPY was at, counted from 1, from an error's context: `COPY product_events_raw, line 17, …`.
/// Servers with messages in another language give none.
fn line_of(error: &tokio_postgres::Error) -> Option<usize> {
    let context = error.as_db_error()?.where_()?;
    // COPY's own line is the outermost one.
    let copy = context.lines().rfind(|line| line.starts_with("COPY "))?;
    let (_, rest) = copy.split_once(", line ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_cut_before_the_line_or_halved() {
        assert_eq!(shorter(10, Some(4)), Some(3));
        assert_eq!(shorter(10, Some(1)), None);
        assert_eq!(shorter(10, Some(11)), Some(5));
        assert_eq!(shorter(10, Some(0)), Some(5));
        assert_eq!(shorter(20_000, None), Some(PIECE));
        assert_eq!(shorter(20_000, Some(15_000)), Some(14_999));
        assert_eq!((shorter(2, None), shorter(1, None)), (Some(1), None));
    }
}
