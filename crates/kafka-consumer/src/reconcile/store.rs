//! What one store has of the run.

use std::sync::atomic::{AtomicU64, Ordering};

use event_model::ProductEvent;

use super::findings::Findings;
use super::hours::Hours;
use super::marks::Marks;
use super::subject::{Subject, Whose};

/// The run's valid events in a store, seen by any number of threads.
pub(super) struct Store {
    pub(super) marks: Marks,
    /// Of those, what they say. Repeats are not counted.
    pub(super) hours: Hours,
    /// Events of the run, repeats included.
    pub(super) events: AtomicU64,
    /// Seen once more.
    pub(super) again: Findings,
    /// With other content than the settings give.
    pub(super) changed: Findings,
    /// With the run's tag, though it has not made such a valid event.
    pub(super) extra: Findings,
}

impl Store {
    pub(super) fn of(subject: &Subject) -> Self {
        Self {
            marks: Marks::new(subject.length()),
            hours: Hours::default(),
            events: AtomicU64::new(0),
            again: Findings::default(),
            changed: Findings::default(),
            extra: Findings::default(),
        }
    }

    /// Looks at an event. Its offset in the run and whether it is new here, where it is the run's.
    pub(super) fn see(
        &self,
        subject: &Subject,
        event: &ProductEvent<'_>,
        place: impl Fn() -> String,
    ) -> Option<(u64, bool)> {
        let offset = match subject.whose(event) {
            Whose::Ours(offset) if subject.may_be_valid(offset) => offset,
            Whose::Foreign => return None,
            _ => {
                self.extra.note(|| format!("{} at {}", event.event_id, place()));
                return None;
            }
        };
        self.events.fetch_add(1, Ordering::Relaxed);
        if subject.event(offset).is_some_and(|made| made != *event) {
            self.changed.note(|| format!("{} at {}", subject.describe(offset), place()));
        }
        let new = self.marks.mark(offset);
        if new {
            self.hours.add_event(event);
        } else {
            self.again.note(|| format!("{} also at {}", subject.describe(offset), place()));
        }
        Some((offset, new))
    }
}
