//! Range of hours and outcome of a rebuild.

use std::fmt;
use std::time::Duration;

use event_model::Hour;

/// Which hours of `event_timestamp`; none is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HourRange {
    /// The first one.
    pub(crate) from: Option<Hour>,
    /// The first one after them.
    pub(crate) to: Option<Hour>,
}

impl HourRange {
    /// Whether an hour is one of them.
    #[must_use]
    pub(crate) fn hold(&self, hour: Hour) -> bool {
        self.from.is_none_or(|from| from <= hour) && self.to.is_none_or(|to| hour < to)
    }
}

/// What a rebuild did.
#[derive(Clone, Debug, Default)]
pub(crate) struct RebuildOutcome {
    /// Files that are in now, and how many an earlier attempt had brought in.
    pub(crate) files: u64,
    /// Of those, what an earlier attempt had brought in.
    pub(crate) files_before: u64,
    /// Files that are left because of the shutdown.
    pub(crate) files_left: u64,
    /// Files whose bytes are not a file of events.
    pub(crate) damaged: UnreadFiles,
    /// Files that could not be fetched.
    pub(crate) unavailable: UnreadFiles,
    /// New rows.
    pub(crate) rows: u64,
    /// Rows that were there.
    pub(crate) duplicates: u64,
    /// Those of them whose content is not the file's.
    pub(crate) differing: u64,
    /// Rows of other hours than those of the rebuild.
    pub(crate) rows_outside: u64,
    /// Rows of days that retention has taken.
    pub(crate) expired: u64,
    /// Rows that a trigger suppressed or redirected.
    pub(crate) suppressed: u64,
    /// Rows that are no valid events or that PostgreSQL refuses; the first of them.
    pub(crate) refused: u64,
    /// An example.
    pub(crate) first_refused: Option<Refused>,
    /// The time that it took.
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

    /// Number of files that are loaded or known to be unreadable.
    pub(crate) fn settled(&self) -> u64 {
        self.files + self.damaged.count + self.unavailable.count
    }
}

/// A row that did not go in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its file.
    pub(crate) key: String,
    /// Its place there, counted from 1.
    pub(crate) row: u64,
    /// Why.
    pub(crate) reason: String,
}

/// Files that were not read: the number of them, and the first ones with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadFiles {
    /// Number of files.
    pub(crate) count: u64,
    first: Vec<(String, String)>,
}

/// Files that were not read and are named in the error. The log names all of them.
const NAMED: usize = 10;

impl UnreadFiles {
    /// Adds a file.
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
