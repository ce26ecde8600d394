//! Event number i.

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

/// A run's events, any of them at any time. Shared freely between threads.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    run_tag: RunTag,
    sessions: Sessions,
    far_most: u64,
}

/// Event `index` as it leaves the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated<'s> {
    /// Its number in the run, from 0.
    pub index: u64,
    /// When it is to be sent.
    pub due: Timestamp,
    /// What it says where no fault breaks it: always a valid event, its time `due` or, late or out of order, an hour
    /// earlier at most.
    pub event: ProductEvent<'s>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    padding: u32,
}

impl Source {
    /// Checks the settings and peoples the world: a moment for the default one, seconds and some
    /// hundred megabytes for the largest.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let population =
            Population::new(settings.seed, &settings.world).ok_or(WorldError::Names { what: "world", count: 0 })?;
        let effect = |name: &String| settings.effects.of(name).parts_per_million();
        let chains = settings.world.experiments.iter().map(|name| Chain::new(effect(name))).collect();
        let sessions = Sessions::new(settings.seed, population, chains);
        let far_most = settings.event_rate.events_within(DAY_MICROS).clamp(1, FAR_MOST);
        Ok(Self { run_tag: settings.run_tag(), sessions, far_most, settings })
    }

    /// The settings that this is the run of.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The tag in the run's event ids.
    #[must_use]
    pub const fn run_tag(&self) -> RunTag {
        self.run_tag
    }

    pub(crate) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// When event `index` is due: exact, see [`Shape`](crate::Shape). In a burst, when its first event is.
    #[must_use]
    pub fn due(&self, index: u64) -> Timestamp {
        let Settings { seed, faults, shape, event_rate, from, .. } = &self.settings;
        let index = faults.burst(*seed, index).unwrap_or(index);
        Timestamp::from_micros(shape.due(*event_rate, from.micros(), index))
    }

    /// How many events are due before a time; the one that is due exactly then is not.
    #[must_use]
    pub fn events_before(&self, time: Timestamp) -> u64 {
        self.settings.events_before(time)
    }

    /// What a record's value may have in bytes, however its event turns out.
    #[must_use]
    pub fn largest_value(&self) -> usize {
        let Settings { faults, padding, .. } = &self.settings;
        let oversize = if faults.oversize > Share::NONE { event_model::MAX_VALUE_BYTES + 4_096 } else { 0 };
        // Two texts of 64 characters, two events in one value.
        oversize.max(2_048 + *padding as usize)
    }

    /// So many events in so many microseconds, at the time of day at which they are fewest.
    #[must_use]
    pub fn least_rate(&self) -> (u64, u64) {
        let (events, micros) = self.settings.event_rate.fraction();
        (events.saturating_mul(self.settings.shape.least()), micros.saturating_mul(10))
    }

    /// Event `index`, 0 to [`MAX_INDEX`](crate::MAX_INDEX); beyond it ids would repeat.
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

    /// The event that comes again right after this one's record, if any: itself, or an earlier one.
    #[must_use]
    pub fn copy_after(&self, generated: &Generated<'_>) -> Option<Generated<'_>> {
        match generated.fault {
            Some(Fault::Duplicate) => Some(self.make(generated.index)),
            Some(Fault::FarDuplicate(back)) => generated.index.checked_sub(back).map(|index| self.make(index)),
            _ => None,
        }
    }

    /// By how many microseconds an event's time is before it is due.
    fn displacement(&self, fault: Option<Fault>) -> i64 {
        match fault {
            Some(Fault::Late(micros)) => micros,
            // By the mean rate, an hour at most: enough to come before it, whatever the time of day.
            Some(Fault::OutOfOrder(places)) => {
                (self.settings.event_rate.due(places).saturating_add(1)).min(LATE_MOST.cast_signed())
            }
            _ => 0,
        }
    }
}

impl Generated<'_> {
    /// Appends the bytes that stand for the event: its JSON, or what its fault makes of it.
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
