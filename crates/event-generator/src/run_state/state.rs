//! The content of `state.json`.

use std::collections::{BTreeMap, VecDeque};

use event_model::Timestamp;
use lake::{Counts, End, Program, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pending_blocks::PendingBlock;
use crate::sinks::{DurablePrefix, LakeFiles};

/// Version of the format that this program reads and writes. Version 1 had other names for flags and fields, version 2
/// no acknowledged prefix and no republished runs.
pub(crate) const STATE_VERSION: u32 = 3;

/// An unfinished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) version: u32,
    pub(crate) run: RunId,
    /// Program that started the run or resumed it last.
    pub(crate) program: Program,
    pub(crate) started_at: Timestamp,
    /// Number of times the run was resumed or republished.
    pub(crate) resumes: u64,
    /// True if the run was finished before. Its manifest is then replaced.
    pub(crate) republished: bool,
    /// Settings that determine the events.
    pub(crate) settings: Value,
    pub(crate) destination: Destination,
    /// Flags that a resume repeats. None of them holds a secret.
    pub(crate) flags: Value,
    /// End of the indices that may have been sent.
    pub(crate) reserved: u64,
    /// End of the run, once it is decided.
    pub(crate) run_end: Option<RunEnd>,
    pub(crate) durable_prefix: DurablePrefix,
    pub(crate) acknowledged: AcknowledgedPrefix,
}

/// The first events of a run: Kafka has acknowledged the records of all of them. A resumed run sends the events after
/// them. Without Kafka, these are the events that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcknowledgedPrefix {
    /// First index after the prefix. It is not before the end of the durable prefix.
    pub(crate) next_index: u64,
    /// Counts of each segment after the durable prefix. The last segment may be incomplete.
    pub(crate) segments: VecDeque<Counts>,
    /// By partition, the offset after the last acknowledged record. It may lie beyond the prefix.
    pub(crate) end_offsets: BTreeMap<i32, i64>,
}

/// Destination of a run. A resume must not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Destination {
    /// Kafka topic; none with `--no-kafka`.
    pub(crate) topic: Option<String>,
    /// Address of the lake; none with `--no-lake`.
    pub(crate) lake: Option<String>,
    /// Number of indices in a segment.
    pub(crate) segment_indices: u64,
}

/// End of a run. It is written before the last, shorter segment may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEnd {
    /// Index after the last event.
    pub(crate) next_index: u64,
    pub(crate) reason: End,
}

impl RunState {
    /// Creates the state of a new run.
    pub(crate) fn new(
        run: RunId,
        started_at: Timestamp,
        settings: Value,
        destination: Destination,
        flags: Value,
    ) -> Self {
        Self {
            version: STATE_VERSION,
            run,
            program: Program { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            started_at,
            resumes: 0,
            republished: false,
            settings,
            destination,
            flags,
            reserved: 0,
            run_end: None,
            durable_prefix: DurablePrefix::default(),
            acknowledged: AcknowledgedPrefix::default(),
        }
    }

    /// Returns the counts of the acknowledged events.
    pub(crate) fn acknowledged_counts(&self) -> Counts {
        let mut counts = self.durable_prefix.counts.clone();
        self.acknowledged.segments.iter().for_each(|segment| counts.merge(segment));
        counts
    }

    /// Extends the acknowledged prefix by the next block.
    pub(super) fn acknowledge(&mut self, block: &PendingBlock) {
        let number = (block.next_index - 1) / self.destination.segment_indices;
        let position = usize::try_from(number - self.durable_prefix.next_segment).unwrap_or(usize::MAX);
        let segments = &mut self.acknowledged.segments;
        if segments.len() <= position {
            segments.resize(position + 1, Counts::default());
        }
        segments[position].merge(&block.counts);
        self.acknowledged.next_index = block.next_index;
    }

    /// Returns the number of the segment after the durable prefix if all its events are acknowledged. The last segment
    /// of the run may be shorter than others.
    pub(super) fn acknowledged_segment(&self) -> Option<u64> {
        let start = self.durable_prefix.next_index;
        let full = start.saturating_add(self.destination.segment_indices);
        let end = self.run_end.map_or(full, |end| end.next_index.min(full));
        (start < end && end <= self.acknowledged.next_index).then_some(self.durable_prefix.next_segment)
    }

    /// Extends the durable prefix by the segment that [`RunState::acknowledged_segment`] returned.
    pub(super) fn store_segment(&mut self, files: LakeFiles) {
        let prefix = &mut self.durable_prefix;
        prefix.next_segment += 1;
        prefix.next_index = (prefix.next_segment * self.destination.segment_indices).min(self.acknowledged.next_index);
        prefix.counts.merge(&self.acknowledged.segments.pop_front().unwrap_or_default());
        prefix.files.add(files);
    }
}

/// Returns the state of a new run that started at 2026-11-22T10:00:00Z.
#[cfg(test)]
pub(crate) fn test_state(run: &str) -> RunState {
    let destination = Destination { topic: Some("t".to_owned()), lake: None, segment_indices: 7 };
    let started_at = "2026-11-22T10:00:00Z".parse().unwrap();
    let (settings, flags) = (serde_json::json!({"seed": 7}), serde_json::json!({"users": 5}));
    RunState::new(run.parse().unwrap(), started_at, settings, destination, flags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    fn state() -> RunState {
        let destination = Destination { topic: None, lake: None, segment_indices: 100 };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        RunState::new("r".parse().unwrap(), now, json!({}), destination, json!({}))
    }

    /// Acknowledges valid events up to an index.
    fn acknowledge(state: &mut RunState, next_index: u64) {
        let mut counts = Counts::default();
        counts.outcomes.valid = next_index - state.acknowledged.next_index;
        state.acknowledge(&PendingBlock { number: 0, next_index, records: counts.outcomes.valid, counts });
    }

    #[test]
    fn segments_join_the_durable_prefix_once_they_are_acknowledged() {
        let mut state = state();
        for next_index in [60, 100, 160, 200, 230] {
            acknowledge(&mut state, next_index);
        }
        let valid: Vec<u64> = state.acknowledged.segments.iter().map(|counts| counts.outcomes.valid).collect();
        assert_eq!(valid, [100, 100, 30]);
        assert_eq!(state.acknowledged_counts().outcomes.valid, 230);
        for number in [0, 1] {
            assert_eq!(state.acknowledged_segment(), Some(number));
            state.store_segment(LakeFiles::default());
        }
        assert_eq!(state.acknowledged_segment(), None, "30 of 100 events");
        let DurablePrefix { next_segment, next_index, counts, .. } = &state.durable_prefix;
        assert_eq!((*next_segment, *next_index, counts.outcomes.valid), (2, 200, 200));
        assert_eq!((state.acknowledged.next_index, state.acknowledged_counts().outcomes.valid), (230, 230));
        assert_eq!(serde_json::from_value::<RunState>(serde_json::to_value(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn the_last_segment_ends_with_the_run() {
        let mut state = state();
        acknowledge(&mut state, 60);
        state.run_end = Some(RunEnd { next_index: 80, reason: End::Stopped });
        assert_eq!(state.acknowledged_segment(), None, "60 of 80 events");
        acknowledge(&mut state, 80);
        assert_eq!(state.acknowledged_segment(), Some(0));
        state.store_segment(LakeFiles::default());
        let prefix = &state.durable_prefix;
        assert_eq!((prefix.next_segment, prefix.next_index, prefix.counts.outcomes.valid), (1, 80, 80));
        assert_eq!(state.acknowledged_segment(), None);
    }
}
