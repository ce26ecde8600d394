//! Counts of records by outcome.

use std::ops::AddAssign;

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordCounts {
    /// Records that were committed, whatever became of them.
    pub(crate) records: u64,
    /// New rows.
    pub(crate) rows: u64,
    /// Records whose `event_id` was there already.
    pub(crate) duplicates: u64,
    /// Those of them whose content is not that of the row.
    pub(crate) duplicates_differing: u64,
    /// Records that are no valid event, or whose row PostgreSQL refuses.
    pub(crate) dead_letters: u64,
    /// Rows of days that retention has taken.
    pub(crate) expired: u64,
    /// Rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
}

impl AddAssign for RecordCounts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.rows += other.rows;
        self.duplicates += other.duplicates;
        self.duplicates_differing += other.duplicates_differing;
        self.dead_letters += other.dead_letters;
        self.expired += other.expired;
        self.suppressed += other.suppressed;
    }
}
