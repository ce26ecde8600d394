//! Settings of a run.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::effect::{EffectError, Effects};
use crate::event_id::RunTag;
use crate::fault::{Faults, FaultsError};
use crate::rate::EventRate;
use crate::shape::Shape;
use crate::share::Share;
use crate::world::{World, WorldError};

/// Version of the workload model. Increase it whenever the same settings would yield different events, so that the runs
/// have different tags.
const GENERATION: u32 = 3;

/// Maximum padding of an event in bytes. A padded event still fits into a record of 64 KiB.
pub const MAX_PADDING: u32 = 60_000;

/// 1980-01-01 and 9000-01-01: within the range of every store, and well after 1970.
const EARLIEST_FROM: Timestamp = Timestamp::from_micros(315_532_800_000_000);
const LATEST_FROM: Timestamp = Timestamp::from_micros(221_845_392_000_000_000);

/// Everything that determines the events of a run, and nothing else.
///
/// The number of events, the pace and the destinations are not part of it. Equal settings define the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of all random numbers but those of the world.
    pub seed: u64,
    /// Users, products and names.
    pub world: World,
    /// Effects of experiments.
    #[serde(default)]
    pub effects: Effects,
    /// Faults to inject.
    pub faults: Faults,
    /// Mean event rate.
    pub event_rate: EventRate,
    /// Distribution of events over the day.
    #[serde(default)]
    pub shape: Shape,
    /// Size in bytes of a meaningless field that makes each record larger: 0 for none, at most [`MAX_PADDING`].
    /// Manifests before 2026-12 call it `pad`.
    #[serde(default, alias = "pad")]
    pub padding: u32,
    /// Due time of event 0.
    pub from: Timestamp,
    /// Name of the run. Runs with different names have different tags.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
}

/// Error returned when the settings are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The world is invalid.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The effects are invalid.
    #[error(transparent)]
    Effects(#[from] EffectError),
    /// The faults are invalid.
    #[error(transparent)]
    Faults(#[from] FaultsError),
    /// The padding is too large.
    #[error("invalid padding: {0} bytes do not fit into a record of 64 KiB; use 0 to 60000")]
    Padding(u32),
    /// The start is out of range.
    #[error("invalid start: {0} is out of range; use a time between the years 1980 and 9000")]
    From(Timestamp),
    /// The name is invalid.
    #[error(
        "invalid run ID: '{0}' cannot name a file; use 1 to 64 letters, digits, - or _, starting with a letter or digit"
    )]
    RunId(String),
}

impl Settings {
    /// Returns the tag of the run: a hash of all settings.
    #[must_use]
    pub fn run_tag(&self) -> RunTag {
        RunTag::from_hash(xxh3_64(self.canonical().as_bytes()))
    }

    /// Returns the name of the run in keys and reports: the configured name, or else the tag.
    #[must_use]
    pub fn run_name(&self) -> String {
        (self.run_id.clone()).unwrap_or_else(|| self.run_tag().to_string())
    }

    /// Fails if the settings are invalid. [`Source::new`](crate::Source::new) calls this too.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.world.check()?;
        self.effects.check(&self.world.experiments)?;
        self.faults.check()?;
        if self.padding > MAX_PADDING {
            return Err(SettingsError::Padding(self.padding));
        }
        if !(EARLIEST_FROM..=LATEST_FROM).contains(&self.from) {
            return Err(SettingsError::From(self.from));
        }
        match &self.run_id {
            Some(name) if !is_file_name(name) => Err(SettingsError::RunId(name.clone())),
            _ => Ok(()),
        }
    }

    /// Returns the number of events due before a time. An event due exactly at that time is not counted.
    #[must_use]
    pub fn events_before(&self, time: Timestamp) -> u64 {
        self.shape.events_between(self.event_rate, self.from.micros(), time.micros())
    }

    /// Returns the text to hash, unique to the settings. Settings added later contribute a line only if they are not at
    /// their default, so that the tags of older runs do not change.
    fn canonical(&self) -> String {
        // Exhaustive, so that the compiler rejects a setting that is missing here.
        let Self { seed, world, effects, faults, event_rate, shape, padding, from, run_id } = self;
        let World { seed: world_seed, users, accounts, products, categories, experiments } = world;
        let Faults { invalid, corrupt, duplicate, oversize, late, out_of_order, hot_key, burst } = faults;
        let mut lines = vec![
            format!("generation {GENERATION}"),
            format!("seed {seed}"),
            format!("world_seed {world_seed}"),
            format!("users {users}"),
            format!("accounts {accounts}"),
            format!("products {products}"),
            // Quoted and escaped, so that one name cannot look like two.
            format!("categories {categories:?}"),
            format!("experiments {experiments:?}"),
            format!("invalid {}", invalid.parts_per_billion()),
            format!("corrupt {}", corrupt.parts_per_billion()),
            format!("duplicate {}", duplicate.parts_per_billion()),
            format!("event_rate {event_rate}"),
            format!("from {}", from.micros()),
        ];
        lines.extend(effects.iter().map(|(name, effect)| format!("effect {name:?} {}", effect.parts_per_million())));
        let later = [
            ("oversize", oversize),
            ("late", late),
            ("out_of_order", out_of_order),
            ("hot_key", hot_key),
            ("burst", burst),
        ];
        let given = later.into_iter().filter(|(_, share)| **share != Share::NONE);
        lines.extend(given.map(|(kind, share)| format!("{kind} {}", share.parts_per_billion())));
        if *padding > 0 {
            // Not `padding`: the tags of older runs must not change.
            lines.push(format!("pad {padding}"));
        }
        if *shape != Shape::Flat {
            lines.push(format!("shape {shape}"));
        }
        lines.extend(run_id.iter().map(|name| format!("run_id {name:?}")));
        lines.join("\n")
    }
}

fn is_file_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&name.len())
        && name.bytes().all(word)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn settings() -> Settings {
        Settings {
            seed: 7,
            world: World::default(),
            effects: Effects::default(),
            faults: Faults::default(),
            event_rate: "10M/day".parse().unwrap(),
            shape: Shape::Flat,
            padding: 0,
            from: "2026-11-22T10:00:00Z".parse().unwrap(),
            run_id: None,
        }
    }

    #[test]
    fn the_tag_is_fixed_for_ever() {
        assert_eq!(settings().run_tag().to_string(), "7bbcbf778");
        assert_eq!(settings().run_name(), settings().run_tag().to_string());
    }

    #[test]
    fn every_setting_changes_the_tag() {
        let changes: [fn(&mut Settings); 21] = [
            |s| s.seed = 8,
            |s| s.world.seed = 8,
            |s| s.world.users += 1,
            |s| s.world.accounts += 1,
            |s| s.world.products += 1,
            |s| s.world.categories.push("toys".to_owned()),
            |s| s.world.experiments.truncate(9),
            |s| s.effects = Effects::new(&["exp_3=+15%".parse().unwrap()]).unwrap(),
            |s| s.faults.invalid = "1%".parse().unwrap(),
            |s| s.faults.corrupt = "1%".parse().unwrap(),
            |s| s.faults.duplicate = "1%".parse().unwrap(),
            |s| s.event_rate = "1/s".parse().unwrap(),
            |s| s.faults.oversize = "1%".parse().unwrap(),
            |s| s.faults.late = "1%".parse().unwrap(),
            |s| s.faults.out_of_order = "1%".parse().unwrap(),
            |s| s.faults.hot_key = "1%".parse().unwrap(),
            |s| s.faults.burst = "1%".parse().unwrap(),
            |s| s.padding = 1,
            |s| s.shape = Shape::Daily,
            |s| s.from = Timestamp::from_micros(s.from.micros() + 1),
            |s| s.run_id = Some("a".to_owned()),
        ];
        let mut tags = vec![settings().run_tag()];
        for change in changes {
            let mut other = settings();
            change(&mut other);
            tags.push(other.run_tag());
        }
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 22);
    }

    #[test]
    fn settings_come_back_from_json() {
        let mut settings = settings();
        settings.run_id = Some("night-1".to_owned());
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        let older = json.replace("\"padding\":0", "\"pad\":20");
        assert_eq!(serde_json::from_str::<Settings>(&older).unwrap().padding, 20);
    }

    #[test]
    fn what_is_no_run_says_why() {
        let error = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert!(matches!(error(|s| s.world.users = 0), SettingsError::World(_)));
        assert!(matches!(error(|s| s.world.categories.clear()), SettingsError::World(_)));
        assert!(matches!(error(|s| s.world.categories[0].clear()), SettingsError::World(_)));
        assert_eq!(error(|s| s.padding = MAX_PADDING + 1), SettingsError::Padding(MAX_PADDING + 1));
        let unknown = |s: &mut Settings| s.effects = Effects::new(&["exp_11=+1%".parse().unwrap()]).unwrap();
        assert!(matches!(error(unknown), SettingsError::Effects(_)));
        assert!(matches!(
            error(|s| (s.faults.invalid, s.faults.corrupt) = (crate::Share::ALL, crate::Share::ALL)),
            SettingsError::Faults(_)
        ));
        assert!(matches!(error(|s| s.from = Timestamp::from_micros(0)), SettingsError::From(_)));
        for name in ["", "a/b", ".x", "-a", "a.draft", "ä"] {
            let mut settings = settings();
            settings.run_id = Some(name.to_owned());
            assert_eq!(settings.check(), Err(SettingsError::RunId(name.to_owned())));
        }
    }
}
