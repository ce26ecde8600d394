//! Keys of the files in the lake, and their parser.

use std::fmt;
use std::str::FromStr;

use event_model::{Hour, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;

/// Prefix of the files of valid events.
pub const RAW_PREFIX: &str = "raw/";
/// Prefix of the files of values that the generator rejected.
pub const QUARANTINE_PREFIX: &str = "quarantine/";
/// Prefix of the manifests.
pub const RUNS_PREFIX: &str = "runs/";

/// Name of a run in keys: 1 to 64 characters of `A-Z a-z 0-9 _ -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Returns the ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = LakeError;

    fn from_str(text: &str) -> Result<Self, LakeError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for RunId {
    type Error = LakeError;

    fn try_from(text: String) -> Result<Self, LakeError> {
        let fits = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits { Ok(Self(text)) } else { Err(LakeError::RunId { text }) }
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed key. `Display` formats it; `FromStr` accepts exactly the output of `Display`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Valid events of one segment with timestamps in one hour.
    Raw {
        /// Hour of `event_timestamp`, UTC.
        hour: Hour,
        /// ID of the run.
        run: RunId,
        /// Segment number: the index of an event divided by the segment size of the run.
        segment: u64,
    },
    /// Rejected values of one segment that were due in one hour.
    Quarantine {
        /// Hour of the due time, UTC.
        hour: Hour,
        /// ID of the run.
        run: RunId,
        /// Segment number.
        segment: u64,
    },
    /// Manifest of a finished run.
    Manifest {
        /// ID of the run.
        run: RunId,
    },
    /// Draft manifest of an unfinished run.
    Draft {
        /// ID of the run.
        run: RunId,
    },
}

/// Returns the key of a segment's valid events of one hour.
///
/// It has the form `raw/event_date=…/hour=…/<run>-<segment>.parquet`.
#[must_use]
pub fn raw_key(hour: Hour, run: &RunId, segment: u64) -> String {
    partitioned(RAW_PREFIX, hour, run, segment)
}

/// Returns the key of a segment's rejected values of one hour.
///
/// It has the form `quarantine/event_date=…/hour=…/<run>-<segment>.parquet`.
#[must_use]
pub fn quarantine_key(hour: Hour, run: &RunId, segment: u64) -> String {
    partitioned(QUARANTINE_PREFIX, hour, run, segment)
}

/// Returns the key of a run's manifest: `runs/<run>.json`.
#[must_use]
pub fn manifest_key(run: &RunId) -> String {
    format!("{RUNS_PREFIX}{run}.json")
}

/// Returns the key of a run's draft manifest: `runs/<run>.draft.json`.
#[must_use]
pub fn draft_key(run: &RunId) -> String {
    format!("{RUNS_PREFIX}{run}.draft.json")
}

/// Pads the segment to eight digits, so that sorting a run's keys by name sorts them by segment.
fn partitioned(prefix: &str, hour: Hour, run: &RunId, segment: u64) -> String {
    format!("{prefix}event_date={}/hour={:02}/{run}-{segment:08}.parquet", hour.date(), hour.hour_of_day())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Raw { hour, run, segment } => raw_key(*hour, run, *segment),
            Self::Quarantine { hour, run, segment } => quarantine_key(*hour, run, *segment),
            Self::Manifest { run } => manifest_key(run),
            Self::Draft { run } => draft_key(run),
        })
    }
}

impl FromStr for Key {
    type Err = LakeError;

    fn from_str(text: &str) -> Result<Self, LakeError> {
        parse(text).filter(|key| key.to_string() == text).ok_or_else(|| LakeError::Key { key: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Key> {
    if let Some(rest) = text.strip_prefix(RAW_PREFIX) {
        let (hour, run, segment) = parse_partitioned(rest)?;
        Some(Key::Raw { hour, run, segment })
    } else if let Some(rest) = text.strip_prefix(QUARANTINE_PREFIX) {
        let (hour, run, segment) = parse_partitioned(rest)?;
        Some(Key::Quarantine { hour, run, segment })
    } else {
        let name = text.strip_prefix(RUNS_PREFIX)?.strip_suffix(".json")?;
        match name.strip_suffix(".draft") {
            Some(run) => Some(Key::Draft { run: run.parse().ok()? }),
            None => Some(Key::Manifest { run: name.parse().ok()? }),
        }
    }
}

fn parse_partitioned(rest: &str) -> Option<(Hour, RunId, u64)> {
    let (date, rest) = rest.strip_prefix("event_date=")?.split_once('/')?;
    let (hour, name) = rest.strip_prefix("hour=")?.split_once('/')?;
    let (run, segment) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let start: Timestamp = format!("{date}T{hour}:00:00Z").parse().ok()?;
    Some((start.hour(), run.parse().ok()?, segment.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn hour(text: &str) -> Hour {
        text.parse::<Timestamp>().unwrap().hour()
    }

    #[test]
    fn keys_are_those_of_the_contract() {
        let run: RunId = "0a1b2c3d4".parse().unwrap();
        let nine = hour("2026-11-22T09:59:59.999999Z");
        assert_eq!(raw_key(nine, &run, 7), "raw/event_date=2026-11-22/hour=09/0a1b2c3d4-00000007.parquet");
        assert_eq!(
            quarantine_key(nine, &run, 123_456_789),
            "quarantine/event_date=2026-11-22/hour=09/0a1b2c3d4-123456789.parquet"
        );
        assert_eq!(manifest_key(&run), "runs/0a1b2c3d4.json");
        assert_eq!(draft_key(&run), "runs/0a1b2c3d4.draft.json");
    }

    #[test]
    fn what_is_not_one_of_our_keys_is_refused() {
        for text in [
            "",
            "raw/",
            "raw/event_date=2026-11-22/hour=9/r-00000007.parquet",
            "raw/event_date=2026-11-22/hour=24/r-00000007.parquet",
            "raw/event_date=2026-02-30/hour=09/r-00000007.parquet",
            "raw/event_date=2026-11-22/hour=09/r-7.parquet",
            "raw/event_date=2026-11-22/hour=09/r-+0000007.parquet",
            "raw/event_date=2026-11-22/hour=09/r.parquet",
            "raw/event_date=2026-11-22/hour=09/.r-00000007.parquet.1-0.tmp",
            "raw/event_date=2026-11-22/r-00000007.parquet",
            "runs/.json",
            "runs/a.b.json",
            "runs/a/b.json",
            "other/event_date=2026-11-22/hour=09/r-00000007.parquet",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    #[test]
    fn run_ids_stay_safe_in_keys() {
        for text in ["", "-a", "_a", "a.draft", "a/b", "ä", "a b", &"a".repeat(65)] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
