//! The events of the run in one store.

use std::sync::atomic::{AtomicU64, Ordering};

use event_model::ProductEvent;

use crate::findings::Findings;
use crate::hourly_sums::HourlySums;
use crate::index_set::IndexSet;
use crate::run_under_test::{Ownership, RunUnderTest};

/// The run's valid events in a store. Any number of threads may add to them.
pub(crate) struct StoreContents {
    pub(crate) indices: IndexSet,
    /// Their counts and hashes, without duplicates.
    pub(crate) hours: HourlySums,
    /// Number of events, duplicates included.
    pub(crate) events: AtomicU64,
    /// Duplicates.
    pub(crate) repeated: Findings,
    /// Events whose content differs from the generated event.
    pub(crate) changed: Findings,
    /// Events with the run's tag that are not valid events of the run.
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

    /// Adds an event. Returns its offset in the run and true if it is new in this store, or `None` if it is not a valid
    /// event of the run.
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
