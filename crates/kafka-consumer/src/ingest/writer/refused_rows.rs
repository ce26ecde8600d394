//! Rows that PostgreSQL refused in an earlier attempt and that become dead letters.

use std::collections::BTreeMap;

use crate::ingest::batch::closed::Batch;

/// Row that PostgreSQL refused, with the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedRow {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) sqlstate: String,
    pub(crate) reason: String,
}

/// Maximum length of a stored reason, in characters: a trigger may raise any text.
const REASON: usize = 2_000;

impl RefusedRow {
    pub(crate) fn new(partition: i32, offset: i64, sqlstate: &str, reason: &str) -> Self {
        let reason = reason.chars().take(REASON).collect();
        Self { partition, offset, sqlstate: sqlstate.to_owned(), reason }
    }

    /// Returns the approximate memory of the row, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.sqlstate.len() + self.reason.len()
    }
}

/// Refused rows that no transaction has settled yet, ordered by partition and offset.
#[derive(Debug, Default)]
pub(crate) struct RefusedRows(BTreeMap<(i32, i64), RefusedRow>);

impl RefusedRows {
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = RefusedRow>) {
        self.0.extend(rows.into_iter().map(|row| ((row.partition, row.offset), row)));
    }

    /// Removes the first refused rows of a batch, up to `most`, and returns them.
    pub(crate) fn take_first(&mut self, batch: &Batch, most: usize) -> Vec<RefusedRow> {
        let first: Vec<(i32, i64)> = self.of(batch).take(most).collect();
        first.iter().filter_map(|index| self.0.remove(index)).collect()
    }

    /// Returns true if any refused row of the batch is left.
    pub(crate) fn has_any_of(&self, batch: &Batch) -> bool {
        self.of(batch).next().is_some()
    }

    fn of(&self, batch: &Batch) -> impl Iterator<Item = (i32, i64)> {
        let is_in = |(partition, offset): &(i32, i64)| {
            batch.parts.get(partition).is_some_and(|part| *offset < part.next_offset)
        };
        self.0.keys().copied().filter(is_in)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ingest::batch::open::OpenBatch;

    fn refused(partition: i32, offset: i64) -> RefusedRow {
        RefusedRow::new(partition, offset, "23514", "no")
    }

    #[test]
    fn the_first_of_a_batch_come_first_and_none_of_another() {
        let mut open = OpenBatch::new(Instant::now());
        open.pass(1, 0, 20);
        open.pass(2, 0, 10);
        let batch = open.close();
        let mut refusals = RefusedRows::default();
        refusals.add(
            [(2, 9), (1, 12), (2, 10), (1, 3), (0, 1), (2, 5)].map(|(partition, offset)| refused(partition, offset)),
        );
        assert_eq!(refusals.take_first(&batch, 3), [refused(1, 3), refused(1, 12), refused(2, 5)]);
        assert!(refusals.has_any_of(&batch));
        assert_eq!(refusals.take_first(&batch, 3), [refused(2, 9)]);
        assert!(!refusals.has_any_of(&batch), "one is of another partition, one behind the batch's end");
    }

    #[test]
    fn a_reason_has_a_limit() {
        assert_eq!(RefusedRow::new(0, 0, "P0001", &"é".repeat(5_000)).reason.chars().count(), REASON);
    }
}
