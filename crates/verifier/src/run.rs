//! Parses the manifest of a run. Its contents are the claims to verify; the verifier takes nothing else from the
//! generator.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::event::parse_hour;

/// Supported version of the manifest's format.
const MANIFEST_VERSION: u64 = 1;

/// A run as described by its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Name of the run in the keys of the lake.
    pub id: String,
    /// Run tag, 36 bits in each event ID of the run.
    pub tag: u64,
    /// First index of the run.
    pub first_index: u64,
    /// Index after the last one of the run.
    pub next_index: u64,
    /// Number of events that passed validation. An event whose record was sent twice counts once.
    pub valid: u64,
    /// Number of events that the generator rejected.
    pub invalid: u64,
    /// Number of corrupt events, sent as unparseable or oversized records.
    pub corrupt: u64,
    /// Number of valid events whose record was sent twice, by the fault `duplicate`.
    pub duplicate: u64,
    /// Number of faults of the kind `invalid`, and of the kinds `corrupt` and `oversize` together.
    pub(crate) faults: (u64, u64),
    /// Number of valid events by type.
    pub(crate) event_types: BTreeMap<String, u64>,
    /// Numbers of (valid, invalid, corrupt) events by hours since 1970.
    pub(crate) hours: BTreeMap<i64, (u64, u64, u64)>,
    /// Sums of the hashes of (valid, invalid, corrupt) by hours since 1970.
    pub(crate) hashes: BTreeMap<i64, (u128, u128, u128)>,
    /// `None` if the run was not sent to Kafka.
    pub kafka: Option<KafkaClaim>,
    /// `None` if the run was not written to the lake.
    pub lake: Option<LakeClaim>,
}

/// The manifest's section about Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaClaim {
    /// Name of the topic.
    pub topic: String,
    /// Number of acknowledged records.
    pub records: u64,
}

/// The manifest's section about the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeClaim {
    /// Numbers of files of valid events and of their rows.
    pub raw: (u64, u64),
    /// Numbers of files of rejected events and of their rows.
    pub quarantine: (u64, u64),
}

impl Run {
    /// Reads a manifest from a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Manifest { place: place.clone(), problem: e.to_string() })?;
        Self::parse(&text, &place)
    }

    /// Parses the text of a manifest. `place` names the source of the text in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let fault = |problem: String| Error::Manifest { place: place.to_owned(), problem };
        let value: Value = serde_json::from_str(text).map_err(|e| fault(format!("not JSON: {e}")))?;
        Part { value: &value, path: String::new() }.run().map_err(fault)
    }

    /// Returns the number of indices: valid, invalid and corrupt events.
    #[must_use]
    pub fn generated(&self) -> u64 {
        self.next_index.saturating_sub(self.first_index)
    }

    /// Checks the sums within the manifest. Returns their number and a description of each one that does not agree.
    pub(crate) fn wrong_sums(&self) -> (u64, Vec<String>) {
        let by_hour = |pick: fn(&(u64, u64, u64)) -> u64| sum(self.hours.values().map(pick));
        let mut sums = vec![
            ("valid + invalid + corrupt = indices", sum([self.valid, self.invalid, self.corrupt]), self.generated()),
            ("valid by hour = valid", by_hour(|h| h.0), self.valid),
            ("invalid by hour = invalid", by_hour(|h| h.1), self.invalid),
            ("corrupt by hour = corrupt", by_hour(|h| h.2), self.corrupt),
            ("valid by event type = valid", sum(self.event_types.values().copied()), self.valid),
            ("faults of kind invalid = invalid", self.faults.0, self.invalid),
            ("faults of kinds corrupt and oversize = corrupt", self.faults.1, self.corrupt),
        ];
        if let Some(lake) = &self.lake {
            sums.push(("rows in raw files = valid", lake.raw.1, self.valid));
            sums.push(("rows in quarantine files = invalid", lake.quarantine.1, self.invalid));
        }
        let wrong = sums
            .iter()
            .filter(|(_, left, right)| left != right)
            .map(|(what, left, right)| format!("{what}: {left} ≠ {right}"))
            .collect();
        (u64::try_from(sums.len()).unwrap_or(u64::MAX), wrong)
    }
}

/// Adds counts, which may be of any size in a damaged manifest.
fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// A part of the manifest with its path, which errors name.
struct Part<'v> {
    value: &'v Value,
    path: String,
}

impl<'v> Part<'v> {
    fn get(&self, field: &str) -> Result<Part<'v>, String> {
        let path = if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        match self.value.get(field) {
            Some(value) => Ok(Part { value, path }),
            None => Err(format!("{path} is missing")),
        }
    }

    fn text(&self, field: &str) -> Result<&'v str, String> {
        let part = self.get(field)?;
        part.value.as_str().ok_or_else(|| format!("{} is not a string", part.path))
    }

    fn count(&self, field: &str) -> Result<u64, String> {
        let part = self.get(field)?;
        part.value.as_u64().ok_or_else(|| format!("{} is not a count", part.path))
    }

    /// Returns a count, or 0 if the field is absent, as in older manifests.
    fn count_or_none(&self, field: &str) -> Result<u64, String> {
        if self.value.get(field).is_some() { self.count(field) } else { Ok(0) }
    }

    fn entries(&self, field: &str) -> Result<Vec<(&'v str, Part<'v>)>, String> {
        let part = self.get(field)?;
        let object = part.value.as_object().ok_or_else(|| format!("{} is not an object", part.path))?;
        Ok(object
            .iter()
            .map(|(key, value)| (key.as_str(), Part { value, path: format!("{}.{key}", part.path) }))
            .collect())
    }

    fn optional(&self, field: &str) -> Result<Option<Part<'v>>, String> {
        Ok(Some(self.get(field)?).filter(|part| !part.value.is_null()))
    }

    fn run(&self) -> Result<Run, String> {
        let version = self.count("version")?;
        if version != MANIFEST_VERSION {
            return Err(format!("its version is {version}, and this verifier reads version {MANIFEST_VERSION}"));
        }
        let run = self.get("run")?;
        let counts = self.get("counts")?;
        let outcomes = counts.get("outcomes")?;
        let faults = counts.get("faults")?;
        Ok(Run {
            id: run.text("id")?.to_owned(),
            tag: u64::from_str_radix(run.text("tag")?, 16).map_err(|e| format!("run.tag is not hexadecimal: {e}"))?,
            first_index: self.count("first_index")?,
            next_index: self.count("next_index")?,
            valid: outcomes.count("valid")?,
            invalid: outcomes.count("invalid")?,
            corrupt: outcomes.count("corrupt")?,
            duplicate: faults.count("duplicate")?,
            faults: (faults.count("invalid")?, sum([faults.count("corrupt")?, faults.count_or_none("oversize")?])),
            event_types: counts.event_types()?,
            hours: counts.hours()?,
            hashes: counts.hashes()?,
            kafka: self.optional("kafka")?.map(|kafka| kafka.kafka()).transpose()?,
            lake: self.optional("lake")?.map(|lake| lake.lake()).transpose()?,
        })
    }

    fn event_types(&self) -> Result<BTreeMap<String, u64>, String> {
        let types = self.entries("event_types")?;
        types
            .into_iter()
            .map(|(name, part)| {
                let count = part.value.as_u64().ok_or_else(|| format!("{} is not a count", part.path))?;
                Ok((name.to_owned(), count))
            })
            .collect()
    }

    fn hours(&self) -> Result<BTreeMap<i64, (u64, u64, u64)>, String> {
        let hours = self.entries("hours")?;
        hours
            .into_iter()
            .map(|(name, part)| {
                let hour = parse_hour(name).ok_or_else(|| format!("{} is not an hour", part.path))?;
                Ok((hour, (part.count("valid")?, part.count("invalid")?, part.count("corrupt")?)))
            })
            .collect()
    }

    fn hashes(&self) -> Result<BTreeMap<i64, (u128, u128, u128)>, String> {
        let sum = |part: &Part, field| {
            u128::from_str_radix(part.text(field)?, 16).map_err(|e| format!("{}.{field}: {e}", part.path))
        };
        let hours = self.entries("hours")?;
        hours
            .into_iter()
            .map(|(name, part)| {
                let hour = parse_hour(name).ok_or_else(|| format!("{} is not an hour", part.path))?;
                Ok((hour, (sum(&part, "valid_hash")?, sum(&part, "invalid_hash")?, sum(&part, "corrupt_hash")?)))
            })
            .collect()
    }

    fn kafka(&self) -> Result<KafkaClaim, String> {
        Ok(KafkaClaim { topic: self.text("topic")?.to_owned(), records: self.count("records")? })
    }

    fn lake(&self) -> Result<LakeClaim, String> {
        let files = |field| -> Result<(u64, u64), String> {
            let part = self.get(field)?;
            Ok((part.count("files")?, part.count("rows")?))
        };
        Ok(LakeClaim { raw: files("raw")?, quarantine: files("quarantine")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"{ "version": 1, "run": {"id": "mine", "tag": "0a1b2c3d4"}, "first_index": 10, "next_index": 16,
        "counts": { "outcomes": {"valid": 3, "invalid": 2, "corrupt": 1}, "faults": {"invalid": 2, "corrupt": 1, "duplicate": 1},
                    "event_types": {"rfq_sent": 2, "product_viewed": 1},
                    "hours": {"2026-11-22T10": {"valid": 3, "invalid": 2, "corrupt": 1, "valid_hash": "0f", "invalid_hash": "0", "corrupt_hash": "1"}} },
        "kafka": {"topic": "product-events", "records": 5, "end_offsets": {"0": 5}},
        "lake": {"url": "s3://x", "segment_indices": 5, "raw": {"files": 1, "rows": 3}, "quarantine": {"files": 1, "rows": 2}} }"#;

    #[test]
    fn a_manifest_is_read_and_adds_up() {
        let run = Run::parse(MANIFEST, "test").map_err(|e| e.to_string());
        assert_eq!(run.as_ref().map(|r| (r.tag, r.generated(), r.wrong_sums().1)), Ok((0x0a1b_2c3d4, 6, Vec::new())));
    }

    #[test]
    fn each_wrong_sum_is_named() {
        let wrong = |from: &str, to: &str| {
            let text = MANIFEST.replacen(from, to, 1);
            assert_ne!(text, MANIFEST);
            Run::parse(&text, "test").map(|r| r.wrong_sums().1.len()).map_err(|e| e.to_string())
        };
        assert_eq!(
            wrong(
                r#""valid": 3, "invalid": 2, "corrupt": 1}, "faults"#,
                r#""valid": 2, "invalid": 2, "corrupt": 1}, "faults"#
            ),
            Ok(4)
        );
        assert_eq!(wrong(r#""next_index": 16"#, r#""next_index": 17"#), Ok(1));
        assert_eq!(wrong(r#""rfq_sent": 2"#, r#""rfq_sent": 1"#), Ok(1));
        assert_eq!(wrong(r#"T10": {"valid": 3, "invalid": 2"#, r#"T10": {"valid": 3, "invalid": 3"#), Ok(1));
        assert_eq!(wrong(r#""files": 1, "rows": 2"#, r#""files": 1, "rows": 1"#), Ok(1));
        assert_eq!(wrong(r#""rfq_sent": 2"#, r#""rfq_sent": 18446744073709551615"#), Ok(1));
    }

    #[test]
    fn what_is_missing_is_named_with_its_path() {
        let error =
            |from: &str, to: &str| Run::parse(&MANIFEST.replacen(from, to, 1), "x.json").map_err(|e| e.to_string());
        assert_eq!(
            error("\"corrupt\": 1", "\"other\": 1"),
            Err("cannot read manifest x.json: counts.outcomes.corrupt is missing".into())
        );
        assert_eq!(
            error("\"version\": 1", "\"version\": 2"),
            Err("cannot read manifest x.json: its version is 2, and this verifier reads version 1".into())
        );
        assert_eq!(
            error("2026-11-22T10", "soon"),
            Err("cannot read manifest x.json: counts.hours.soon is not an hour".into())
        );
    }

    #[test]
    fn a_run_may_go_without_kafka_or_lake() {
        let text = MANIFEST.replace("\"kafka\": {\"topic\"", "\"kafka\": null, \"was\": {\"topic\"");
        let run = Run::parse(&text, "test").map_err(|e| e.to_string());
        assert_eq!(run.map(|r| (r.kafka, r.lake.is_some())), Ok((None, true)));
    }
}
