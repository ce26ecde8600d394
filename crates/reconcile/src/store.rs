//! What one store has of the run.

use std::sync::atomic::{AtomicU64, Ordering};

use event_model::ProductEvent;

use crate::findings::Findings;
use crate::hourly_sums::HourlySums;
use crate::index_set::IndexSet;
use crate::run_under_test::{Ownership, RunUnderTest};

/// The run's valid events in a store, seen by any number of threads.
pub(crate) struct StoreContents {
    pub(crate) indices: IndexSet,
    /// Of those, what they say. Repeats are not counted.
    pub(crate) hours: HourlySums,
    /// Events of the run, repeats included.
    pub(crate) events: AtomicU64,
    /// Seen once more.
    pub(crate) repeated: Findings,
    /// With other content than the settings give.
    pub(crate) changed: Findings,
    /// With the run's tag, though it has not made such a valid event.
    pub(crate) extra: Findings,
}

impl StoreContents {
    pub(crate) fn of(run: &RunUnderTest) -> Self {
        Self {
            indices: IndexSet::new(run.length()),
            hours: HourlySums::default(),
            events: AtomicU64::new(0),
            repeated: Findings::default(),
            changed: Findings::default(),
            extra: Findings::default(),
        }
    }

    /// Looks at an event. Its offset in the run and whether it is new here, where it is the run's.
    pub(crate) fn observe(
        &self,
        run: &RunUnderTest,
        event: &ProductEvent<'_>,
        position: impl Fn() -> String,
    ) -> Option<(u64, bool)> {
        let offset = match run.ownership(event) {
            Ownership::Ours(offset) if run.may_be_valid(offset) => offset,
            Ownership::Foreign => return None,
            _ => {
                self.extra.add(|| format!("{} at {}", event.event_id, position()));
                return None;
            }
        };
        self.events.fetch_add(1, Ordering::Relaxed);
        if run.event(offset).is_some_and(|made| made != *event) {
            self.changed.add(|| format!("{} at {}", run.describe(offset), position()));
        }
        let new = self.indices.insert(offset);
        if new {
            self.hours.add_event(event);
        } else {
            self.repeated.add(|| format!("{} also at {}", run.describe(offset), position()));
        }
        Some((offset, new))
    }
}
