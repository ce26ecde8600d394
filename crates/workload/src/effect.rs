//! Effects of experiments on user behaviour.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::decimal::{self, Decimal};

const MILLION: u32 = 1_000_000;
/// A larger effect could raise the transition probabilities after a view above 100%.
const MOST: u32 = 3 * MILLION;

/// Relative change of the probability that a request for quotation follows a view, in parts per million.
///
/// An effect of `+15%` turns 12% into 13.8%. The range is -100% to +300%.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effect(i32);

/// Effect of one experiment, written `exp_3=+15%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentEffect {
    /// Name of the experiment.
    pub experiment: String,
    /// Effect on its users.
    pub effect: Effect,
}

/// Effects by experiment name. An experiment that is not listed has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Effects(BTreeMap<String, Effect>);

/// Error returned when an effect is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EffectError {
    /// The equals sign is missing.
    #[error("'{0}' has no '='; write EXPERIMENT=CHANGE, such as exp_3=+15%")]
    Form(String),
    /// The number is not a percentage.
    #[error("'{0}' is not a percentage; write +15% or -5%, with at most four decimals")]
    Number(String),
    /// The effect is out of range.
    #[error("{0} is out of range; use -100% to +300%")]
    Range(String),
    /// An experiment is given more than once.
    #[error("{0} is given twice; give one effect")]
    Twice(String),
    /// The world has no such experiment.
    #[error("unknown experiment '{0}'; use one of {1}")]
    Unknown(String, String),
}

impl Effect {
    /// Returns the relative change in parts per million, -1,000,000 to 3,000,000.
    #[must_use]
    pub const fn parts_per_million(self) -> i32 {
        self.0
    }
}

impl Effects {
    /// Collects effects. Fails if an experiment occurs twice.
    pub fn new(effects: &[ExperimentEffect]) -> Result<Self, EffectError> {
        let mut all = BTreeMap::new();
        for ExperimentEffect { experiment, effect } in effects {
            if all.insert(experiment.clone(), *effect).is_some() {
                return Err(EffectError::Twice(experiment.clone()));
            }
        }
        Ok(Self(all))
    }

    /// Returns the effect of an experiment, or no effect if it is not listed.
    #[must_use]
    pub fn of(&self, experiment: &str) -> Effect {
        self.0.get(experiment).copied().unwrap_or_default()
    }

    /// Iterates over the listed effects in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Effect)> {
        self.0.iter().map(|(name, effect)| (name.as_str(), *effect))
    }

    pub(crate) fn check(&self, experiments: &[String]) -> Result<(), EffectError> {
        match self.0.keys().find(|name| !experiments.contains(name)) {
            Some(name) => Err(EffectError::Unknown(name.clone(), shown(experiments))),
            None => Ok(()),
        }
    }

    /// Changes a probability in integer parts by `effect` parts per million of itself.
    pub(crate) fn apply(parts: u32, effect: i32) -> u32 {
        let factor = i64::from(MILLION) + i64::from(effect);
        u32::try_from(i64::from(parts) * factor / i64::from(MILLION)).unwrap_or(0)
    }
}

fn shown(experiments: &[String]) -> String {
    let more = if experiments.len() > 10 { ", …" } else { "" };
    format!("{}{more}", experiments[..experiments.len().min(10)].join(", "))
}

impl FromStr for Effect {
    type Err = EffectError;

    fn from_str(text: &str) -> Result<Self, EffectError> {
        let number = || EffectError::Number(text.to_owned());
        let digits = text.trim().strip_suffix('%').ok_or_else(number)?.trim_end();
        let (sign, digits) = match digits.as_bytes().first() {
            Some(b'-') => (-1, &digits[1..]),
            Some(b'+') => (1, &digits[1..]),
            _ => (1, digits),
        };
        let parts = Decimal::parse(digits).and_then(|digits| digits.in_units_of(4)).ok_or_else(number)?;
        let most = if sign < 0 { MILLION } else { MOST };
        match i32::try_from(parts) {
            Ok(parts) if parts.unsigned_abs() <= most => Ok(Self(sign * parts)),
            _ => Err(EffectError::Range(text.to_owned())),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{}%", decimal::text_of(self.0.unsigned_abs().into(), 4))
    }
}

impl FromStr for ExperimentEffect {
    type Err = EffectError;

    fn from_str(text: &str) -> Result<Self, EffectError> {
        let (experiment, effect) = text.rsplit_once('=').ok_or_else(|| EffectError::Form(text.to_owned()))?;
        Ok(Self { experiment: experiment.trim().to_owned(), effect: effect.parse()? })
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn effects_are_exact_and_come_back() {
        for (text, parts) in [("+15%", 150_000), ("-0.5%", -5_000), ("300%", 3_000_000), ("-100 %", -1_000_000)] {
            let effect: Effect = text.parse().unwrap();
            assert_eq!(effect.parts_per_million(), parts);
            assert_eq!(effect.to_string().parse::<Effect>().unwrap(), effect);
        }
        assert_eq!(Effects::apply(120_000_000, 150_000), 138_000_000);
        assert_eq!(Effects::apply(120_000_000, -1_000_000), 0);
    }

    #[test]
    fn what_is_no_effect_says_why() {
        let error = |text: &str| text.parse::<ExperimentEffect>().unwrap_err();
        assert!(matches!(error("exp_3"), EffectError::Form(_)));
        assert!(matches!(error("exp_3=15"), EffectError::Number(_)));
        assert!(matches!(error("exp_3=+much%"), EffectError::Number(_)));
        assert!(matches!(error("exp_3=+301%"), EffectError::Range(_)));
        assert!(matches!(error("exp_3=-101%"), EffectError::Range(_)));
        let one: ExperimentEffect = "exp_3=+15%".parse().unwrap();
        assert!(matches!(Effects::new(&[one.clone(), one.clone()]), Err(EffectError::Twice(_))));
        let effects = Effects::new(&[one]).unwrap();
        assert!(matches!(effects.check(&["a".to_owned()]), Err(EffectError::Unknown(..))));
    }
}
