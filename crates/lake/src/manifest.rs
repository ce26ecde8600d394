//! The manifest: description of a run and its results.

use std::collections::BTreeMap;

use event_model::{Hour, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::keys::RunId;
use crate::set_hash::SetHash;

/// Format version of the manifests written here. A later version may change the meaning of existing fields.
pub const MANIFEST_VERSION: u32 = 1;

/// Manifest of a run. Unknown fields are ignored when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version: [`MANIFEST_VERSION`].
    pub version: u32,
    /// Names of the run.
    pub run: RunName,
    /// Program that executed the run.
    pub program: Program,
    /// Resolved settings, which reproduce the run.
    pub settings: serde_json::Value,
    /// Start of the run by the system clock.
    pub started_at: Timestamp,
    /// End of the run; `None` in a draft.
    pub finished_at: Option<Timestamp>,
    /// Reason for the end; `None` in a draft.
    pub end: Option<End>,
    /// Number of times the run was resumed after it was stopped or killed, or republished. Each may leave identical copies
    /// of records in Kafka.
    #[serde(default)]
    pub resumes: u64,
    /// First index generated.
    pub first_index: u64,
    /// Index after the last one generated.
    pub next_index: u64,
    /// Counts of the generated events.
    pub counts: Counts,
    /// Records in Kafka; `None` with `--no-kafka`.
    pub kafka: Option<KafkaPart>,
    /// Files in the lake; `None` with `--no-lake`.
    pub lake: Option<LakePart>,
}

/// Names of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunName {
    /// Name in keys.
    pub id: RunId,
    /// Run tag, part of every `event_id`: nine hexadecimal digits.
    pub tag: String,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the program.
    pub name: String,
    /// Version of the program.
    pub version: String,
}

/// Reason for the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The requested number of events was generated.
    CountReached,
    /// The run was stopped on request.
    Stopped,
}

/// Counts of the events of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Indices by outcome. An event that was sent twice counts as one valid event.
    pub outcomes: OutcomeCounts,
    /// Indices by deliberate fault.
    pub faults: FaultCounts,
    /// Valid events by type.
    pub event_types: BTreeMap<String, u64>,
    /// Indices by hour: of `event_timestamp` for valid events, of the due time for all others.
    pub hours: BTreeMap<Hour, HourCounts>,
}

/// Numbers of indices by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeCounts {
    /// Valid events.
    pub valid: u64,
    /// Values that the generator rejected.
    pub invalid: u64,
    /// Values that were deliberately corrupted and sent.
    pub corrupt: u64,
}

/// Numbers of indices of one hour by outcome, and hashes of their content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HourCounts {
    /// Numbers by outcome.
    #[serde(flatten)]
    pub outcomes: OutcomeCounts,
    /// Hash of the valid events.
    pub valid_hash: SetHash,
    /// Hash of the rejected values.
    pub invalid_hash: SetHash,
    /// Hash of the corrupt values.
    pub corrupt_hash: SetHash,
}

/// Numbers of indices by deliberate fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultCounts {
    /// Rejected by the generator.
    pub invalid: u64,
    /// Sent as bytes that are not an event; outcome `corrupt`.
    pub corrupt: u64,
    /// Sent with a duplicate of itself or of an earlier event. Counted at this index, not at that of the earlier event.
    pub duplicate: u64,
    /// Sent with more than the maximum size of a record; outcome `corrupt`.
    pub oversize: u64,
    /// Valid, sent long after its timestamp.
    pub late: u64,
    /// Valid, sent after events with later timestamps.
    pub out_of_order: u64,
    /// Valid, reassigned to the most active user.
    pub hot_key: u64,
    /// Valid, sent at the same time as others.
    pub burst: u64,
}

/// Records of a run in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaPart {
    /// Name of the topic.
    pub topic: String,
    /// Number of records that the broker acknowledged.
    pub records: u64,
    /// Offset after the last acknowledged record, by partition.
    pub end_offsets: BTreeMap<i32, i64>,
}

/// Files of a run in the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakePart {
    /// Address of the lake.
    pub url: String,
    /// Number of indices per segment.
    pub segment_indices: u64,
    /// Files of valid events.
    pub raw: FileCounts,
    /// Files of rejected values.
    pub quarantine: FileCounts,
}

/// Numbers of files and of their rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCounts {
    /// Number of files.
    pub files: u64,
    /// Number of rows.
    pub rows: u64,
}

/// Expected numbers of records and rows of a run in each store. Each index counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedCounts {
    /// Records in Kafka. A resumed run may have added identical copies.
    pub kafka_records: u64,
    /// Rows in the raw lake.
    pub raw_rows: u64,
    /// Rows in the quarantine.
    pub quarantine_rows: u64,
    /// Rows in the PostgreSQL table.
    pub table_rows: u64,
    /// Records that the consumer counts as duplicates.
    pub duplicates: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl FileCounts {
    /// Adds other counts.
    pub fn add(&mut self, others: Self) {
        self.files += others.files;
        self.rows += others.rows;
    }
}

impl OutcomeCounts {
    /// Returns the number of generated indices.
    #[must_use]
    pub fn generated(&self) -> u64 {
        self.valid.saturating_add(self.invalid).saturating_add(self.corrupt)
    }
}

impl Counts {
    /// Adds the counts of another part of the run.
    pub fn merge(&mut self, other: &Self) {
        add_outcomes(&mut self.outcomes, other.outcomes);
        add_faults(&mut self.faults, other.faults);
        for (event_type, count) in &other.event_types {
            *self.event_types.entry(event_type.clone()).or_default() += count;
        }
        for (&hour, counts) in &other.hours {
            self.hours.entry(hour).or_default().add(counts);
        }
    }

    /// Derives the expected numbers in each store from the counts.
    #[must_use]
    pub fn expected_counts(&self) -> ExpectedCounts {
        let OutcomeCounts { valid, invalid, corrupt } = self.outcomes;
        let duplicates = self.faults.duplicate;
        ExpectedCounts {
            kafka_records: valid.saturating_add(duplicates).saturating_add(corrupt),
            raw_rows: valid,
            quarantine_rows: invalid,
            table_rows: valid,
            duplicates,
            dead_letters: corrupt,
        }
    }
}

impl HourCounts {
    /// Adds other counts.
    pub fn add(&mut self, others: &Self) {
        add_outcomes(&mut self.outcomes, others.outcomes);
        self.valid_hash.add(others.valid_hash);
        self.invalid_hash.add(others.invalid_hash);
        self.corrupt_hash.add(others.corrupt_hash);
    }
}

fn add_faults(sum: &mut FaultCounts, other: FaultCounts) {
    // The exhaustive destructuring makes the compiler report a new kind that is missing here.
    let FaultCounts { invalid, corrupt, duplicate, oversize, late, out_of_order, hot_key, burst } = other;
    sum.invalid += invalid;
    sum.corrupt += corrupt;
    sum.duplicate += duplicate;
    sum.oversize += oversize;
    sum.late += late;
    sum.out_of_order += out_of_order;
    sum.hot_key += hot_key;
    sum.burst += burst;
}

fn add_outcomes(sum: &mut OutcomeCounts, other: OutcomeCounts) {
    // A manifest may have any counts.
    sum.valid = sum.valid.saturating_add(other.valid);
    sum.invalid = sum.invalid.saturating_add(other.invalid);
    sum.corrupt = sum.corrupt.saturating_add(other.corrupt);
}

impl Manifest {
    /// Returns the manifest as indented JSON with a trailing line feed.
    pub fn to_json(&self) -> Result<Vec<u8>, LakeError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|source| LakeError::Encode { file: "manifest", source: source.into() })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Parses a manifest. `key` is used in error messages.
    ///
    /// # Errors
    /// [`LakeError::NewerManifest`] for a newer format version, [`LakeError::BadFile`] for anything else that is not a
    /// manifest.
    pub fn from_json(key: &str, text: &[u8]) -> Result<Self, LakeError> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let bad = |error: serde_json::Error| LakeError::BadFile { key: key.to_owned(), problem: error.to_string() };
        let form: Form = serde_json::from_slice(text).map_err(bad)?;
        if form.version > MANIFEST_VERSION {
            return Err(LakeError::NewerManifest { key: key.to_owned(), found: form.version, known: MANIFEST_VERSION });
        }
        serde_json::from_slice(text).map_err(bad)
    }

    /// Returns a sentence for each inconsistency between the counts of the manifest.
    #[must_use]
    pub fn discrepancies(&self) -> Vec<String> {
        let outcomes = self.counts.outcomes;
        let expected = self.counts.expected_counts();
        let by_hour = self.counts.hours.values().fold(OutcomeCounts::default(), |mut sum, hour| {
            add_outcomes(&mut sum, hour.outcomes);
            sum
        });
        let by_type = self.counts.event_types.values().copied().fold(0, u64::saturating_add);
        let indices = self.next_index.saturating_sub(self.first_index);
        let mut sums = vec![
            ("indices", indices, "valid, invalid and corrupt events", outcomes.generated()),
            ("valid events", outcomes.valid, "valid events by hour", by_hour.valid),
            ("invalid values", outcomes.invalid, "invalid values by hour", by_hour.invalid),
            (
                "corrupt values",
                outcomes.corrupt,
                "corrupt values by fault",
                self.counts.faults.corrupt.saturating_add(self.counts.faults.oversize),
            ),
            ("corrupt values", outcomes.corrupt, "corrupt values by hour", by_hour.corrupt),
            ("valid events", outcomes.valid, "valid events by type", by_type),
        ];
        if let Some(lake) = &self.lake {
            sums.push(("valid events", expected.raw_rows, "rows in raw files", lake.raw.rows));
            sums.push(("invalid values", expected.quarantine_rows, "rows in quarantine files", lake.quarantine.rows));
        }
        let differ = sums.into_iter().filter(|(_, left, _, right)| left != right);
        differ.map(|(what, left, other, right)| format!("{left} {what}, but {right} {other}")).collect()
    }
}
