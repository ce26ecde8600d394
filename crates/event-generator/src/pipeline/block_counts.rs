//! Counts and hashes of the events of a block.
//!
//! The workers count a block while they generate it. Only the block in which a run stops is counted a second time, up
//! to the last event sent, by generating its events again: at most 512 events per process. Counts for each prefix of
//! each block would cost every event more than that.

use std::ops::Range;

use event_model::{EventType, Hour};
use lake::{Counts, FaultCounts, HourCounts, OutcomeCounts};
use workload::{Fault, FaultKind, Generated, Source};

use crate::validate::{Validated, validate};

/// Counts of a block, in a form that is fast to add to.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockCounts {
    faults: FaultCounts,
    types: [u64; EventType::ALL.len()],
    /// A block spans an hour or two, so the last entry is almost always the right one.
    hours: Vec<(Hour, HourCounts)>,
    scratch: Vec<u8>,
}

impl BlockCounts {
    /// Counts the events of a range by generating them again.
    pub(super) fn of(source: &Source, range: Range<u64>) -> Self {
        let mut counts = Self::default();
        for index in range {
            let generated = source.make(index);
            counts.add(&generated, &validate(&generated));
        }
        counts
    }

    pub(super) fn add(&mut self, generated: &Generated<'_>, validated: &Validated) {
        let mut scratch = std::mem::take(&mut self.scratch);
        match validated {
            Validated::Valid => {
                let hour = self.hour(generated.event.event_timestamp.hour());
                hour.outcomes.valid += 1;
                hour.valid_hash.add_event(&generated.event, &mut scratch);
                self.types[generated.event.event_type as usize] += 1;
                match generated.fault.map(Fault::kind) {
                    Some(FaultKind::Duplicate) => self.faults.duplicate += 1,
                    Some(FaultKind::Late) => self.faults.late += 1,
                    Some(FaultKind::OutOfOrder) => self.faults.out_of_order += 1,
                    Some(FaultKind::HotKey) => self.faults.hot_key += 1,
                    Some(FaultKind::Burst) => self.faults.burst += 1,
                    _ => {}
                }
            }
            Validated::Invalid { value, .. } => {
                let hour = self.hour(generated.due.hour());
                hour.outcomes.invalid += 1;
                hour.invalid_hash.add_rejected(generated.index, generated.due, value, &mut scratch);
                if matches!(generated.fault, Some(Fault::Invalid(_))) {
                    self.faults.invalid += 1;
                }
            }
            Validated::Corrupt => {
                let mut value = Vec::new();
                generated.write_value(&mut value);
                let hour = self.hour(generated.due.hour());
                hour.outcomes.corrupt += 1;
                hour.corrupt_hash.add_corrupt(generated.index, generated.event.user_id, &value, &mut scratch);
                match generated.fault {
                    Some(Fault::Oversize(_)) => self.faults.oversize += 1,
                    _ => self.faults.corrupt += 1,
                }
            }
        }
        self.scratch = scratch;
    }

    fn hour(&mut self, hour: Hour) -> &mut HourCounts {
        let known = self.hours.iter().rposition(|(known, _)| *known == hour);
        let position = known.unwrap_or_else(|| {
            self.hours.push((hour, HourCounts::default()));
            self.hours.len() - 1
        });
        &mut self.hours[position].1
    }

    /// Converts the counts to the form of the manifest.
    pub(super) fn into_counts(self) -> Counts {
        let mut outcomes = OutcomeCounts::default();
        for (_, hour) in &self.hours {
            outcomes.valid += hour.outcomes.valid;
            outcomes.invalid += hour.outcomes.invalid;
            outcomes.corrupt += hour.outcomes.corrupt;
        }
        let types = EventType::ALL.into_iter().zip(self.types).filter(|(_, count)| *count > 0);
        Counts {
            outcomes,
            faults: self.faults,
            event_types: types.map(|(event_type, count)| (event_type.as_str().to_owned(), count)).collect(),
            hours: self.hours.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_source::source;

    #[test]
    fn parts_add_up_to_the_whole() {
        let source = source(&["invalid=10%", "corrupt=10%", "duplicate=10%"]);
        let whole = BlockCounts::of(&source, 0..5_000).into_counts();
        let mut sum = Counts::default();
        for part in 0..5 {
            sum.merge(&BlockCounts::of(&source, part * 1_000..(part + 1) * 1_000).into_counts());
        }
        assert_eq!(sum, whole);
        assert_eq!(whole.outcomes.generated(), 5_000);
        assert_eq!(whole.faults.invalid, whole.outcomes.invalid);
        assert_eq!(whole.faults.corrupt, whole.outcomes.corrupt);
        assert_eq!(whole.event_types.values().sum::<u64>(), whole.outcomes.valid);
        let hours: Vec<String> = whole.hours.keys().map(Hour::to_string).collect();
        assert_eq!(hours, ["2026-11-22T09", "2026-11-22T10"]);
    }
}
