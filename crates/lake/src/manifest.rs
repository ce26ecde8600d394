//! The manifest: what a run was and what it made.

use std::collections::BTreeMap;

use event_model::{Hour, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::keys::RunId;
use crate::set_hash::SetHash;

/// The version of the form that is written here. A later one may have fields that change the meaning of others.
pub const MANIFEST_VERSION: u32 = 1;

/// A run's manifest. Fields that are not known here are ignored when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the form: [`MANIFEST_VERSION`].
    pub version: u32,
    /// Which run.
    pub run: RunName,
    /// Which program made it.
    pub program: Program,
    /// The settings as resolved: what makes the same run again.
    pub settings: serde_json::Value,
    /// When the run began, by the clock.
    pub started_at: Timestamp,
    /// When it ended; none in a draft.
    pub finished_at: Option<Timestamp>,
    /// Why it ended; none in a draft.
    pub end: Option<End>,
    /// How often the run was gone on with after it had been stopped or killed: Kafka may have identical copies then.
    #[serde(default)]
    pub resumes: u64,
    /// The first index that was made.
    pub first_index: u64,
    /// The index after the last one that was made.
    pub next_index: u64,
    /// What was made.
    pub counts: Counts,
    /// What went to Kafka; none with `--no-kafka`.
    pub kafka: Option<KafkaPart>,
    /// What went to the lake; none with `--no-lake`.
    pub lake: Option<LakePart>,
}

/// A run's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunName {
    /// The name in keys.
    pub id: RunId,
    /// The run tag, which stands in every `event_id`: nine hexadecimal digits.
    pub tag: String,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All that was asked for is made.
    CountReached,
    /// It was asked to stop.
    Stopped,
}

/// What a run made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// By outcome. An event that was sent twice is one valid event.
    pub outcomes: OutcomeCounts,
    /// By deliberate fault.
    pub faults: FaultCounts,
    /// Valid events by type.
    pub event_types: BTreeMap<String, u64>,
    /// By hour: of `event_timestamp` for valid events, of the due time for the others.
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
    /// Values broken on purpose and sent.
    pub corrupt: u64,
}

/// What is of one hour: numbers of indices by outcome, and what they say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HourCounts {
    /// How many there are.
    #[serde(flatten)]
    pub outcomes: OutcomeCounts,
    /// Of the valid events.
    pub valid_hash: SetHash,
    /// Of the rejected values.
    pub invalid_hash: SetHash,
    /// Of those that were sent broken.
    pub corrupt_hash: SetHash,
}

/// Numbers of indices by deliberate fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultCounts {
    /// Refused by the generator.
    pub invalid: u64,
    /// Sent as bytes that are no event; of the outcome `corrupt`.
    pub corrupt: u64,
    /// Sent with a copy, of itself or of an earlier event, which is counted here and not there.
    pub duplicate: u64,
    /// Sent larger than a record may be; of the outcome `corrupt` too.
    pub oversize: u64,
    /// Valid, but sent long after it happened.
    pub late: u64,
    /// Valid, but sent after events that happened later.
    pub out_of_order: u64,
    /// Valid, and moved to the most active user.
    pub hot_key: u64,
    /// Valid, and sent at once with others.
    pub burst: u64,
}

/// What went to Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaPart {
    /// The topic.
    pub topic: String,
    /// Records that the broker acknowledged.
    pub records: u64,
    /// By partition, the offset after the last record that the broker acknowledged.
    pub end_offsets: BTreeMap<i32, i64>,
}

/// What went to the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakePart {
    /// The lake's address.
    pub url: String,
    /// How many indices a segment has.
    pub segment_indices: u64,
    /// Files of valid events.
    pub raw: FileCounts,
    /// Files of rejected values.
    pub quarantine: FileCounts,
}

/// Numbers of files and of rows in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCounts {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
}

/// Expected numbers of records and rows of a run in each store, each index counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedCounts {
    /// Records in Kafka; a resumed run may have added identical copies.
    pub kafka_records: u64,
    /// Rows in the raw lake.
    pub raw_rows: u64,
    /// Rows in the quarantine.
    pub quarantine_rows: u64,
    /// Rows in the table.
    pub table_rows: u64,
    /// Records that the consumer counts as duplicates.
    pub duplicates: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl FileCounts {
    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.files += others.files;
        self.rows += others.rows;
    }
}

impl OutcomeCounts {
    /// All of them.
    #[must_use]
    pub fn generated(&self) -> u64 {
        self.valid + self.invalid + self.corrupt
    }
}

impl Counts {
    /// Adds what another part of the run made.
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
            kafka_records: valid + duplicates + corrupt,
            raw_rows: valid,
            quarantine_rows: invalid,
            table_rows: valid,
            duplicates,
            dead_letters: corrupt,
        }
    }
}

impl HourCounts {
    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        add_outcomes(&mut self.outcomes, others.outcomes);
        self.valid_hash.add(others.valid_hash);
        self.invalid_hash.add(others.invalid_hash);
        self.corrupt_hash.add(others.corrupt_hash);
    }
}

fn add_faults(sum: &mut FaultCounts, other: FaultCounts) {
    // Taken apart in full, so that a new kind can't be forgotten here.
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
    sum.valid += other.valid;
    sum.invalid += other.invalid;
    sum.corrupt += other.corrupt;
}

impl Manifest {
    /// The JSON document, pretty-printed, with a line feed at its end.
    pub fn to_json(&self) -> Result<Vec<u8>, LakeError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|source| LakeError::Encode { file: "manifest", source: source.into() })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a document; the key is for messages.
    ///
    /// # Errors
    /// [`LakeError::NewerManifest`] for a later version of the form, [`LakeError::BadFile`] for anything else that is
    /// no manifest.
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

    /// Which of the manifest's own sums do not add up, each as a sentence; none when all do.
    #[must_use]
    pub fn discrepancies(&self) -> Vec<String> {
        let outcomes = self.counts.outcomes;
        let expected = self.counts.expected_counts();
        let by_hour = self.counts.hours.values().fold(OutcomeCounts::default(), |mut sum, hour| {
            add_outcomes(&mut sum, hour.outcomes);
            sum
        });
        let by_type: u64 = self.counts.event_types.values().sum();
        let indices = self.next_index.saturating_sub(self.first_index);
        let mut sums = vec![
            ("indices made", indices, "valid, invalid and corrupt", outcomes.generated()),
            ("valid events", outcomes.valid, "valid events by hour", by_hour.valid),
            ("invalid values", outcomes.invalid, "invalid values by hour", by_hour.invalid),
            (
                "broken values",
                outcomes.corrupt,
                "broken by fault",
                self.counts.faults.corrupt + self.counts.faults.oversize,
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
