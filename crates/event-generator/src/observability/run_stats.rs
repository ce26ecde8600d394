//! All counts of a run, and the manifest made of them.

use std::sync::Arc;

use event_model::Timestamp;
use lake::{End, KafkaPart, LakePart, MANIFEST_VERSION, Manifest, Program, RunId, RunName};
use pipeline_runtime::kafka::Connection;
use workload::Source;

use super::run_counts::RunCounts;
use crate::sinks::kafka::Deliveries;
use crate::sinks::lake::LakeProgress;

/// The counters of a run. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct RunStats {
    pub(crate) run: RunId,
    pub(crate) source: Arc<Source>,
    pub(crate) started_at: Timestamp,
    /// Number of times the run was resumed.
    pub(crate) resumes: u64,
    pub(crate) counts: Arc<RunCounts>,
    pub(crate) kafka: Option<KafkaStats>,
    pub(crate) lake: Option<LakeStats>,
}

#[derive(Clone, Debug)]
pub(crate) struct KafkaStats {
    pub(crate) topic: String,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) connection: Connection,
}

#[derive(Clone, Debug)]
pub(crate) struct LakeStats {
    pub(crate) url: String,
    pub(crate) segment_indices: u64,
    pub(crate) progress: Arc<LakeProgress>,
}

impl RunStats {
    /// Returns the manifest of the run so far. Counts of different sinks may be a moment apart.
    pub(crate) fn draft_manifest(&self) -> Manifest {
        let sent = self.counts.sent();
        let settings = self.source.settings();
        Manifest {
            version: MANIFEST_VERSION,
            run: RunName { id: self.run.clone(), tag: self.source.run_tag().to_string() },
            program: Program { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            // Serializing settings to JSON cannot fail.
            settings: serde_json::to_value(settings).unwrap_or_default(),
            started_at: self.started_at,
            finished_at: None,
            end: None,
            resumes: self.resumes,
            first_index: 0,
            next_index: sent.next_index,
            counts: sent.counts,
            kafka: self.kafka.as_ref().map(|kafka| {
                let acknowledged = kafka.deliveries.acknowledged();
                KafkaPart {
                    topic: kafka.topic.clone(),
                    records: acknowledged.records,
                    end_offsets: acknowledged.end_offsets,
                }
            }),
            lake: self.lake.as_ref().map(|lake| {
                let files = lake.progress.files();
                LakePart {
                    url: lake.url.clone(),
                    segment_indices: lake.segment_indices,
                    raw: files.raw,
                    quarantine: files.quarantine,
                }
            }),
        }
    }

    /// Returns the manifest of a finished run. Fails with every pair of counts that disagree: then this program lost or
    /// duplicated events.
    pub(crate) fn final_manifest(&self, end: End, finished_at: Timestamp) -> Result<Manifest, Vec<String>> {
        let manifest = Manifest { end: Some(end), finished_at: Some(finished_at), ..self.draft_manifest() };
        let mut problems = manifest.discrepancies();
        if let Some(kafka) = &manifest.kafka {
            let expected = manifest.counts.expected_counts().kafka_records;
            if kafka.records != expected {
                problems.push(format!("{expected} records to send, but {} acknowledged records", kafka.records));
            }
        }
        if problems.is_empty() { Ok(manifest) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use lake::Counts;

    use super::*;
    use crate::test_source::source;

    /// Counts of 100 valid events.
    fn counts(source: &Source) -> Counts {
        let mut counts = Counts::default();
        counts.outcomes.valid = 100;
        counts.event_types.insert("search_performed".to_owned(), 100);
        counts.hours.entry(source.due(0).hour()).or_default().outcomes.valid = 100;
        counts
    }

    #[test]
    fn only_counts_that_agree_make_a_manifest() {
        let source = Arc::new(source(&[]));
        let counts_of_run = Arc::new(RunCounts::default());
        counts_of_run.add(100, &counts(&source));
        let now = source.due(0);
        let run: RunId = "r".parse().unwrap();
        let mut stats =
            RunStats { run, source, started_at: now, resumes: 0, counts: counts_of_run, kafka: None, lake: None };
        let manifest = stats.final_manifest(End::Stopped, now).unwrap();
        assert_eq!((manifest.next_index, manifest.counts.outcomes.generated()), (100, 100));
        assert_eq!(manifest.settings["seed"], 7);
        let deliveries = Arc::new(Deliveries::resuming(0, &BTreeMap::new()));
        stats.kafka = Some(KafkaStats { topic: "t".to_owned(), deliveries, connection: Connection::default() });
        assert!(stats.final_manifest(End::Stopped, now).unwrap_err()[0].contains("acknowledged"));
        stats.kafka = None;
        let progress = Arc::new(LakeProgress::default());
        stats.lake = Some(LakeStats { url: "file:///x".to_owned(), segment_indices: 1, progress });
        assert!(!stats.final_manifest(End::Stopped, now).unwrap_err().is_empty());
    }
}
