//! Range of hours and outcome of a rebuild.

use std::fmt;
use std::time::Duration;

use event_model::Hour;

/// Range of hours of `event_timestamp`. `None` means unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HourRange {
    /// First hour.
    pub(crate) from: Option<Hour>,
    /// First hour after the range.
    pub(crate) to: Option<Hour>,
}

impl HourRange {
    /// Returns true if the range contains the hour.
    #[must_use]
    pub(crate) fn hold(&self, hour: Hour) -> bool {
        self.from.is_none_or(|from| from <= hour) && self.to.is_none_or(|to| hour < to)
    }
}

/// Outcome of a rebuild.
#[derive(Clone, Debug, Default)]
pub(crate) struct RebuildOutcome {
    /// Number of loaded files, those of earlier attempts included.
    pub(crate) files: u64,
    /// Number of files that earlier attempts loaded.
    pub(crate) files_before: u64,
    /// Number of files that were not attempted because of the shutdown.
    pub(crate) files_left: u64,
    /// Files that are not valid event files.
    pub(crate) damaged: UnreadFiles,
    /// Files that could not be fetched.
    pub(crate) unavailable: UnreadFiles,
    /// Number of new rows.
    pub(crate) rows: u64,
    /// Number of rows whose `event_id` was already in the table.
    pub(crate) duplicates: u64,
    /// Number of duplicates whose content differs from the row in the table.
    pub(crate) differing: u64,
    /// Number of rows outside the range of hours.
    pub(crate) rows_outside: u64,
    /// Number of rows of days that retention has dropped.
    pub(crate) expired: u64,
    /// Number of rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
    /// Number of rows that are not valid events or that PostgreSQL refused.
    pub(crate) refused: u64,
    /// First refused row.
    pub(crate) first_refused: Option<Refused>,
    pub(crate) elapsed: Duration,
}

impl RebuildOutcome {
    pub(crate) fn add(&mut self, file: Self) {
        self.files += file.files;
        self.rows += file.rows;
        self.duplicates += file.duplicates;
        self.differing += file.differing;
        self.rows_outside += file.rows_outside;
        self.expired += file.expired;
        self.suppressed += file.suppressed;
        self.refused += file.refused;
        self.first_refused = self.first_refused.take().or(file.first_refused);
    }

    /// Returns the number of files that are loaded or known to be unreadable.
    pub(crate) fn settled(&self) -> u64 {
        self.files + self.damaged.count + self.unavailable.count
    }
}

/// A row that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Key of its file.
    pub(crate) key: String,
    /// Number of the row in the file, counted from 1.
    pub(crate) row: u64,
    pub(crate) reason: String,
}

/// Unread files: their number, and the first ones with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadFiles {
    pub(crate) count: u64,
    first: Vec<(String, String)>,
}

/// Maximum number of unread files in an error message. The log lists all of them.
const NAMED: usize = 10;

impl UnreadFiles {
    pub(crate) fn add(&mut self, key: &str, reason: String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push((key.to_owned(), reason));
        }
    }
}

/// Writes `2 files (raw/a.parquet: the reason, raw/b.parquet: the reason)`.
impl fmt::Display for UnreadFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (", self.count, if self.count == 1 { "file" } else { "files" })?;
        for (place, (key, reason)) in self.first.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{key}: {reason}")?;
        }
        match self.count - self.first.len() as u64 {
            0 => f.write_str(")"),
            more => write!(f, ", and {more} more in the log)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_files_are_named() {
        let mut files = UnreadFiles::default();
        files.add("raw/a", "it ends early".to_owned());
        assert_eq!(files.to_string(), "1 file (raw/a: it ends early)");
        for number in 0..11 {
            files.add(&format!("raw/{number}"), "no".to_owned());
        }
        let text = files.to_string();
        assert!(text.starts_with("12 files (raw/a: it ends early, raw/0: no, "), "{text}");
        assert!(text.ends_with("raw/8: no, and 2 more in the log)"), "{text}");
    }
}
