//! Corrections of a batch's counts: rows that were read but not inserted.

use std::ops::AddAssign;

use crate::observability::record_counts::RecordCounts;

/// State of a row before its insert, as seen by its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// No row in the table has its `event_id`.
    New,
    /// A row in the table has its `event_id` and the same content.
    Same,
    /// A row in the table has its `event_id` but different content.
    Differing,
}

/// Rows of a partition that were counted as inserted but were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountCorrections {
    /// Rows whose `event_id` was in the table already.
    pub(crate) duplicates: u64,
    /// Duplicates whose content differs from the row in the table.
    pub(crate) differing: u64,
    /// Rows that PostgreSQL refused.
    pub(crate) refused: u64,
    /// Rows of days that retention has dropped.
    pub(crate) expired: u64,
    /// Rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
}

impl AddAssign for CountCorrections {
    fn add_assign(&mut self, other: Self) {
        self.duplicates += other.duplicates;
        self.differing += other.differing;
        self.refused += other.refused;
        self.expired += other.expired;
        self.suppressed += other.suppressed;
    }
}

impl CountCorrections {
    /// Counts a row if it is a duplicate.
    pub(crate) fn add(&mut self, known: RowState) {
        self.duplicates += u64::from(known != RowState::New);
        self.differing += u64::from(known == RowState::Differing);
    }

    /// Returns the counts with these corrections applied.
    pub(crate) fn apply(&self, tally: RecordCounts) -> RecordCounts {
        RecordCounts {
            records: tally.records,
            rows: tally.rows - self.duplicates - self.refused - self.expired - self.suppressed,
            duplicates: tally.duplicates + self.duplicates,
            duplicates_differing: tally.duplicates_differing + self.differing,
            dead_letters: tally.dead_letters + self.refused,
            expired: tally.expired + self.expired,
            suppressed: tally.suppressed + self.suppressed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_correction_moves_rows_to_the_count_of_its_own() {
        let read = RecordCounts { records: 100, rows: 90, dead_letters: 10, ..RecordCounts::default() };
        let corrections = CountCorrections { duplicates: 1, differing: 1, refused: 2, expired: 4, suppressed: 8 };
        let settled = corrections.apply(read);
        let expected = RecordCounts {
            records: 100,
            rows: 75,
            duplicates: 1,
            duplicates_differing: 1,
            dead_letters: 12,
            expired: 4,
            suppressed: 8,
        };
        assert_eq!(settled, expected);
        assert_eq!(CountCorrections::default().apply(settled), settled);
    }

    #[test]
    fn a_batch_may_be_suppressed_as_a_whole() {
        let read = RecordCounts { records: 3, rows: 3, ..RecordCounts::default() };
        let settled = CountCorrections { suppressed: 3, ..CountCorrections::default() }.apply(read);
        assert_eq!(settled, RecordCounts { records: 3, suppressed: 3, ..RecordCounts::default() });
    }
}
