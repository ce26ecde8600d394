//! Counts of records by outcome.

use std::ops::AddAssign;

/// Number of records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordCounts {
    /// Committed records of any outcome.
    pub(crate) records: u64,
    /// New rows.
    pub(crate) rows: u64,
    /// Records whose `event_id` already existed on that day.
    pub(crate) duplicates: u64,
    /// Duplicates whose content differs from the row in the table.
    pub(crate) duplicates_differing: u64,
    /// Records that failed validation, or whose row PostgreSQL rejected.
    pub(crate) dead_letters: u64,
    /// Events of days that retention has dropped.
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
