//! The run's manifest: what was made and where it went, as a draft while the run goes on and for good at its end.

use std::sync::Arc;

use event_model::Timestamp;
use lake::{End, KafkaPart, LakePart, MANIFEST_VERSION, Manifest, Program, RunId, RunName};
use workload::Source;

use crate::pipeline::block_counts::Tally;
use crate::sinks::kafka::Deliveries;
use crate::sinks::lake::Written;

/// All that is counted, wherever it is counted.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The run's name.
    pub run: RunId,
    /// Its events.
    pub source: Arc<Source>,
    /// When it began.
    pub started_at: Timestamp,
    /// How often it was gone on with.
    pub resumes: u64,
    /// What was made.
    pub tally: Arc<Tally>,
    /// The topic, and what it took.
    pub kafka: Option<(String, Arc<Deliveries>)>,
    /// The lake's address and the indices of a segment, and what it took.
    pub lake: Option<(String, u64, Arc<Written>)>,
}

impl Ledger {
    /// As it stands. What is counted in different places may be a moment apart.
    #[must_use]
    pub fn draft(&self) -> Manifest {
        let made = self.tally.made();
        let settings = self.source.settings();
        Manifest {
            version: MANIFEST_VERSION,
            run: RunName { id: self.run.clone(), tag: self.source.run_tag().to_string() },
            program: Program { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            // Settings have no form that JSON lacks.
            settings: serde_json::to_value(settings).unwrap_or_default(),
            started_at: self.started_at,
            finished_at: None,
            end: None,
            resumes: self.resumes,
            first_index: 0,
            next_index: made.next_index,
            counts: made.counts,
            kafka: self.kafka.as_ref().map(|(topic, deliveries)| {
                let acknowledged = deliveries.acknowledged();
                KafkaPart { topic: topic.clone(), records: acknowledged.records, end_offsets: acknowledged.end_offsets }
            }),
            lake: self.lake.as_ref().map(|(url, segment_indices, written)| {
                let files = written.files();
                LakePart {
                    url: url.clone(),
                    segment_indices: *segment_indices,
                    raw: files.raw,
                    quarantine: files.quarantine,
                }
            }),
        }
    }

    /// At the end. Fails with all sums that don't add up: then something was lost or doubled here.
    pub fn close(&self, end: End, finished_at: Timestamp) -> Result<Manifest, Vec<String>> {
        let manifest = Manifest { end: Some(end), finished_at: Some(finished_at), ..self.draft() };
        let mut wrong = manifest.discrepancies();
        if let Some(kafka) = &manifest.kafka {
            let expected = manifest.counts.expected_counts().kafka_records;
            if kafka.records != expected {
                wrong.push(format!("{expected} records to send, but {} acknowledged", kafka.records));
            }
        }
        if wrong.is_empty() { Ok(manifest) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;
    use crate::pipeline::block_counts::BlockCounts;
    use crate::pipeline::block_counts::tests::source;
    use crate::run_state::Safe;

    #[test]
    fn only_what_adds_up_is_closed() {
        let source = Arc::new(source(&["invalid=1%"]));
        let tally = Arc::new(Tally::default());
        let counts = BlockCounts::of(&source, 0..100);
        tally.add(100, &counts.into_counts());
        let now = source.due(0);
        let run: RunId = "r".parse().unwrap();
        let mut ledger = Ledger { run, source, started_at: now, resumes: 0, tally, kafka: None, lake: None };
        let manifest = ledger.close(End::Stopped, now).unwrap();
        assert_eq!((manifest.next_index, manifest.counts.outcomes.generated()), (100, 100));
        assert_eq!(manifest.settings["seed"], 7);
        let deliveries = Deliveries::after(&Safe::default(), 1);
        ledger.kafka = Some(("t".to_owned(), Arc::new(deliveries)));
        assert!(ledger.close(End::Stopped, now).unwrap_err()[0].contains("acknowledged"));
        ledger.kafka = None;
        ledger.lake = Some(("file:///x".to_owned(), 1, Arc::default()));
        assert!(!ledger.close(End::Stopped, now).unwrap_err().is_empty());
    }
}
