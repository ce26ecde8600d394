//! Generates event number i.

use std::borrow::Cow;

use event_model::{ProductEvent, RequiredFields, Timestamp};

use crate::behaviour::Chain;
use crate::event_id::{RunTag, event_id};
use crate::fault::{FAR_MOST, Fault, LATE_MOST};
use crate::padding::{pad, pad_to};
use crate::population::Population;
use crate::session::Sessions;
use crate::settings::{Settings, SettingsError};
use crate::share::Share;
use crate::world::WorldError;

const DAY_MICROS: u64 = 86_400_000_000;

/// Events of a run, in any order. Can be shared between threads.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    run_tag: RunTag,
    sessions: Sessions,
    far_most: u64,
}

/// Event `index` as generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated<'s> {
    /// Index in the run, from 0.
    pub index: u64,
    /// Due time.
    pub due: Timestamp,
    /// The event before a fault changes its bytes. It is always valid. Its time is `due`, or up to an hour earlier if
    /// it is late or out of order.
    pub event: ProductEvent<'s>,
    /// Fault of the event.
    pub fault: Option<Fault>,
    padding: u32,
}

impl Source {
    /// Checks the settings and creates the users and products.
    ///
    /// Takes milliseconds for the default world, and seconds and a few hundred megabytes for the largest.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let population = Population::new(&settings.world).ok_or(WorldError::Names { what: "world", count: 0 })?;
        let effect = |name: &String| settings.effects.of(name).parts_per_million();
        let chains = settings.world.experiments.iter().map(|name| Chain::new(effect(name))).collect();
        let sessions = Sessions::new(settings.seed, population, chains);
        let far_most = settings.event_rate.events_within(DAY_MICROS).clamp(1, FAR_MOST);
        Ok(Self { run_tag: settings.run_tag(), sessions, far_most, settings })
    }

    /// Returns the settings of the run.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the tag in the run's event IDs.
    #[must_use]
    pub const fn run_tag(&self) -> RunTag {
        self.run_tag
    }

    pub(crate) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Returns the exact due time of event `index`, see [`Shape`](crate::Shape). The events of a burst are due with its
    /// first.
    #[must_use]
    pub fn due(&self, index: u64) -> Timestamp {
        let Settings { seed, faults, shape, event_rate, from, .. } = &self.settings;
        let index = faults.burst(*seed, index).unwrap_or(index);
        Timestamp::from_micros(shape.due(*event_rate, from.micros(), index))
    }

    /// Returns the number of events due before a time. An event due exactly at that time is not counted. Ignores
    /// bursts.
    #[must_use]
    pub fn events_before(&self, time: Timestamp) -> u64 {
        self.settings.events_before(time)
    }

    /// Returns an upper bound for the size of a record value in bytes, with any fault.
    #[must_use]
    pub fn largest_value(&self) -> usize {
        let Settings { faults, padding, .. } = &self.settings;
        let oversize = if faults.oversize > Share::NONE { event_model::MAX_VALUE_BYTES + 4_096 } else { 0 };
        // Room for two texts of 64 characters each, and for two events in one value.
        oversize.max(2_048 + *padding as usize)
    }

    /// Returns the rate at the hour of the lowest density, as a number of events per number of microseconds.
    #[must_use]
    pub fn least_rate(&self) -> (u64, u64) {
        let (events, micros) = self.settings.event_rate.fraction();
        (events.saturating_mul(self.settings.shape.least()), micros.saturating_mul(10))
    }

    /// Returns event `index`, 0 to [`MAX_INDEX`](crate::MAX_INDEX). IDs repeat beyond that.
    #[must_use]
    pub fn make(&self, index: u64) -> Generated<'_> {
        let world = &self.settings.world;
        let fault = self.settings.faults.at(self.settings.seed, index, self.far_most);
        let action = self.sessions.action(index);
        let user = if fault == Some(Fault::HotKey) { self.sessions.population().heaviest() } else { action.user };
        let due = self.due(index);
        let at = Timestamp::from_micros(due.micros().saturating_sub(self.displacement(fault)));
        Generated {
            index,
            due,
            event: ProductEvent::new(RequiredFields {
                event_id: event_id(at, self.run_tag, index),
                event_timestamp: at,
                event_type: action.event_type,
                user_id: user.id,
                account_id: user.account,
                product_id: action.product.id,
                category: Cow::Borrowed(&world.categories[usize::from(action.product.category)]),
                experiment_id: Cow::Borrowed(&world.experiments[usize::from(user.experiment)]),
            }),
            fault,
            padding: self.settings.padding,
        }
    }

    /// Returns the indices of a whole session, from its search to its last event.
    ///
    /// Numbers from 0 on select different sessions; not every session of the run has a number.
    pub fn session(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        self.sessions.indices(number)
    }

    /// Returns the event to send again right after this one's record: the event itself, an earlier one, or `None`.
    #[must_use]
    pub fn copy_after(&self, generated: &Generated<'_>) -> Option<Generated<'_>> {
        match generated.fault {
            Some(Fault::Duplicate) => Some(self.make(generated.index)),
            Some(Fault::FarDuplicate(back)) => generated.index.checked_sub(back).map(|index| self.make(index)),
            _ => None,
        }
    }

    /// Returns the number of microseconds between an event's time and its due time.
    fn displacement(&self, fault: Option<Fault>) -> i64 {
        match fault {
            Some(Fault::Late(micros)) => micros,
            // Mean intervals, limited to an hour. At hours of low density this may not reach the event `places` before
            // it.
            Some(Fault::OutOfOrder(places)) => {
                (self.settings.event_rate.due(places).saturating_add(1)).min(LATE_MOST.cast_signed())
            }
            _ => 0,
        }
    }
}

impl Generated<'_> {
    /// Appends the record value: the event's JSON, or the bytes that its fault produces.
    pub fn write_value(&self, out: &mut Vec<u8>) {
        match self.fault {
            Some(Fault::Invalid(kind)) => kind.write(&self.event, out),
            Some(Fault::Corrupt(corruption)) => corruption.write(&self.event, out),
            Some(Fault::Oversize(more)) => {
                let start = out.len();
                self.event.write_compact_json(out);
                pad_to(out, self.index, start, event_model::MAX_VALUE_BYTES + more as usize);
            }
            _ => {
                self.event.write_json(out);
                if self.padding > 0 {
                    pad(out, self.index, self.padding as usize);
                }
            }
        }
    }
}
