//! Counts of what was made.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event_model::{EventType, Hour};
use lake::{Counts, FaultCounts, HourCounts, OutcomeCounts};
use workload::{Fault, FaultKind, Generated, Source};

use crate::validate::{Verdict, judge};

/// Counts of a block's events, and hashes of what they say. Quick to add to.
#[derive(Clone, Debug, Default)]
pub struct BlockCounts {
    faults: FaultCounts,
    types: [u64; EventType::ALL.len()],
    /// A block lies within an hour or two, so the last one is nearly always the right one.
    hours: Vec<(Hour, HourCounts)>,
    /// Working memory.
    scratch: Vec<u8>,
}

impl BlockCounts {
    /// Counts the events of a range by making them once more.
    #[must_use]
    pub fn of(source: &Source, range: Range<u64>) -> Self {
        let mut counts = Self::default();
        for index in range {
            let generated = source.make(index);
            counts.add(&generated, &judge(&generated));
        }
        counts
    }

    /// Counts an event.
    pub fn add(&mut self, generated: &Generated<'_>, verdict: &Verdict) {
        let mut scratch = std::mem::take(&mut self.scratch);
        match verdict {
            Verdict::Valid => {
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
            Verdict::Invalid { value, .. } => {
                let hour = self.hour(generated.due.hour());
                hour.outcomes.invalid += 1;
                hour.invalid_hash.add_refused(generated.index, generated.due, value, &mut scratch);
                if matches!(generated.fault, Some(Fault::Invalid(_))) {
                    self.faults.invalid += 1;
                }
            }
            Verdict::Corrupt => {
                let mut value = Vec::new();
                generated.write_value(&mut value);
                let hour = self.hour(generated.due.hour());
                hour.outcomes.corrupt += 1;
                hour.corrupt_hash.add_broken(generated.index, generated.event.user_id, &value, &mut scratch);
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
        let place = known.unwrap_or_else(|| {
            self.hours.push((hour, HourCounts::default()));
            self.hours.len() - 1
        });
        &mut self.hours[place].1
    }

    /// In the manifest's form.
    #[must_use]
    pub fn into_counts(self) -> Counts {
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

/// The run's counts so far, read while it goes on.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Made>);

/// What was made and handed to the sinks.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The index after the last one.
    pub next_index: u64,
    /// The counts of all before it.
    pub counts: Counts,
}

impl Tally {
    /// After events that were counted before.
    #[must_use]
    pub fn after(made: Made) -> Self {
        Self(Mutex::new(made))
    }

    /// Adds the counts of the events before `next_index` that are new.
    pub fn add(&self, next_index: u64, counts: &Counts) {
        let mut made = self.lock();
        made.next_index = next_index;
        made.counts.merge(counts);
    }

    /// How far it is.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.lock().next_index
    }

    /// All of it.
    #[must_use]
    pub fn made(&self) -> Made {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use workload::{Effects, Faults, Settings, Shape, World};

    use super::*;

    pub(crate) fn source(faults: &[&str]) -> Source {
        let shares: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
        Source::new(Settings {
            seed: 7,
            world: World::default(),
            effects: Effects::default(),
            faults: Faults::from_shares(&shares).unwrap(),
            event_rate: "10M/day".parse().unwrap(),
            shape: Shape::Flat,
            padding: 0,
            from: "2026-11-22T09:59:50Z".parse().unwrap(),
            run_id: None,
        })
        .unwrap()
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let source = source(&["invalid=10%", "corrupt=10%", "duplicate=10%"]);
        let whole = BlockCounts::of(&source, 0..5_000).into_counts();
        let tally = Tally::default();
        for part in 0..5 {
            let range = part * 1_000..(part + 1) * 1_000;
            tally.add(range.end, &BlockCounts::of(&source, range).into_counts());
        }
        assert_eq!(tally.made().counts, whole);
        assert_eq!(tally.next_index(), 5_000);
        assert_eq!(whole.outcomes.generated(), 5_000);
        assert_eq!(whole.faults.invalid, whole.outcomes.invalid);
        assert_eq!(whole.faults.corrupt, whole.outcomes.corrupt);
        assert_eq!(whole.event_types.values().sum::<u64>(), whole.outcomes.valid);
        let hours: Vec<String> = whole.hours.keys().map(Hour::to_string).collect();
        assert_eq!(hours, ["2026-11-22T09", "2026-11-22T10"]);
    }
}
