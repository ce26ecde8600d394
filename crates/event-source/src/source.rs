//! Event number i.

use std::borrow::Cow;

use event_model::{ProductEvent, Timestamp};

use crate::behaviour::Chain;
use crate::fault::Fault;
use crate::origin::{self, RunTag};
use crate::population::Population;
use crate::session::Sessions;
use crate::settings::{Settings, SettingsError};
use crate::world::WorldError;

/// A run's events, any of them at any time. Shared freely between threads.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    run_tag: RunTag,
    sessions: Sessions,
}

/// Event `index` as it leaves the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated<'s> {
    /// Its number in the run, from 0.
    pub index: u64,
    /// When it is to be sent.
    pub due: Timestamp,
    /// What it says where no fault falls on it: always a valid event, `due` its time.
    pub event: ProductEvent<'s>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
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
        Ok(Self { run_tag: settings.run_tag(), sessions, settings })
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

    /// When event `index` is due: exact, see [`Shape`](crate::Shape).
    #[must_use]
    pub fn due(&self, index: u64) -> Timestamp {
        let Settings { shape, event_rate, from, .. } = &self.settings;
        Timestamp::from_micros(shape.due(*event_rate, from.micros(), index))
    }

    /// How many events are due before a time; the one that is due exactly then is not.
    #[must_use]
    pub fn events_before(&self, time: Timestamp) -> u64 {
        self.settings.events_before(time)
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
        let action = self.sessions.action(index);
        let due = self.due(index);
        Generated {
            index,
            due,
            event: ProductEvent {
                event_id: origin::event_id(due, self.run_tag, index),
                event_timestamp: due,
                event_type: action.event_type,
                user_id: action.user.id,
                account_id: action.user.account,
                product_id: action.product.id,
                category: Cow::Borrowed(&world.categories[usize::from(action.product.category)]),
                experiment_id: Cow::Borrowed(&world.experiments[usize::from(action.user.experiment)]),
            },
            fault: self.settings.faults.at(self.settings.seed, index),
        }
    }
}

impl Generated<'_> {
    /// Appends the bytes that stand for the event: its JSON, or what its fault makes of it.
    pub fn write_value(&self, out: &mut Vec<u8>) {
        match self.fault {
            None | Some(Fault::Duplicate) => self.event.write_json(out),
            Some(Fault::Invalid(breakage)) => breakage.write(&self.event, out),
            Some(Fault::Corrupt(corruption)) => corruption.write(&self.event, out),
        }
    }
}
