//! What one store has of the run.

use std::sync::atomic::{AtomicU64, Ordering};

use event_model::ProductEvent;

use crate::reconcile::findings::Findings;
use crate::reconcile::hours::Hours;
use crate::reconcile::marks::Marks;
use crate::reconcile::subject::{Subject, Whose};

/// The run's valid events in a store, seen by any number of threads.
pub(crate) struct Store {
    pub(crate) marks: Marks,
    /// Of those, what they say. Repeats are not counted.
    pub(crate) hours: Hours,
    /// Events of the run, repeats included.
    pub(crate) events: AtomicU64,
    /// Seen once more.
    pub(crate) again: Findings,
    /// With other content than the settings give.
    pub(crate) changed: Findings,
    /// With the run's tag, though it has not made such a valid event.
    pub(crate) extra: Findings,
}

impl Store {
    pub(crate) fn of(subject: &Subject) -> Self {
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
    pub(crate) fn see(
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
