//! Events that are wrong on purpose.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keyed::{Keyed, key_for, scale};
use crate::share::{ParseShareError, Share};
use crate::{Breakage, Corruption};

/// The key's purpose: which events are faulty has nothing to do with what is in them.
const PURPOSE: u64 = 2;

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its JSON breaks one rule: validation refuses it and it is never sent.
    Invalid(Breakage),
    /// Its bytes are no event, and they are sent all the same.
    Corrupt(Corruption),
    /// Its record is sent twice.
    Duplicate,
}

/// The kinds of faults that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// See [`Fault::Invalid`].
    Invalid,
    /// See [`Fault::Corrupt`].
    Corrupt,
    /// See [`Fault::Duplicate`].
    Duplicate,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Invalid, Self::Corrupt, Self::Duplicate];

    /// The name that people write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Fault {
    /// The kind of this fault.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        match self {
            Self::Invalid(_) => FaultKind::Invalid,
            Self::Corrupt(_) => FaultKind::Corrupt,
            Self::Duplicate => FaultKind::Duplicate,
        }
    }
}

/// The share of all events that each fault falls on. An event has one fault at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// See [`Fault::Invalid`].
    pub invalid: Share,
    /// See [`Fault::Corrupt`].
    pub corrupt: Share,
    /// See [`Fault::Duplicate`].
    pub duplicate: Share,
}

/// One share as it is written, `invalid=0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultShare {
    /// Which fault.
    pub kind: FaultKind,
    /// How many of the events.
    pub share: Share,
}

/// Why faults can't be had as they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FaultsError {
    /// No equals sign.
    #[error("`{0}` is not a fault with its share: write it as invalid=0.5%")]
    Form(String),
    /// A kind that doesn't exist.
    #[error("`{0}` is not a kind of fault: there are invalid, corrupt and duplicate")]
    Kind(String),
    /// The share can't be read.
    #[error("{kind}: {source}")]
    Share {
        /// The fault.
        kind: FaultKind,
        /// What is wrong with its share.
        source: ParseShareError,
    },
    /// Given more than once.
    #[error("{0} is given twice: say it once, with its whole share")]
    Twice(FaultKind),
    /// More faults than events.
    #[error("the shares of the faults add up to more than 100%; an event has one fault at most")]
    TooMany,
}

impl FromStr for FaultShare {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, share) = (text.split_once('=')).ok_or_else(|| FaultsError::Form(text.to_owned()))?;
        let kind = (FaultKind::ALL.into_iter().find(|kind| kind.as_str() == name.trim()))
            .ok_or_else(|| FaultsError::Kind(name.trim().to_owned()))?;
        match share.parse() {
            Ok(share) => Ok(Self { kind, share }),
            Err(source) => Err(FaultsError::Share { kind, source }),
        }
    }
}

impl fmt::Display for FaultShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.share)
    }
}

impl Faults {
    /// Puts shares together. Fails on a kind that comes twice.
    pub fn from_shares(shares: &[FaultShare]) -> Result<Self, FaultsError> {
        let mut faults = Self::default();
        for (place, FaultShare { kind, share }) in shares.iter().enumerate() {
            if shares[..place].iter().any(|earlier| earlier.kind == *kind) {
                return Err(FaultsError::Twice(*kind));
            }
            match kind {
                FaultKind::Invalid => faults.invalid = *share,
                FaultKind::Corrupt => faults.corrupt = *share,
                FaultKind::Duplicate => faults.duplicate = *share,
            }
        }
        faults.check()?;
        Ok(faults)
    }

    pub(crate) fn check(&self) -> Result<(), FaultsError> {
        let sum: u64 = (self.in_order().iter()).map(|(_, share)| u64::from(share.parts_per_billion())).sum();
        if sum > u64::from(Share::ALL.parts_per_billion()) {
            return Err(FaultsError::TooMany);
        }
        Ok(())
    }

    /// The order in which the shares lie side by side. New kinds go to the end, so that the events
    /// of runs without them stay as they are.
    const fn in_order(&self) -> [(FaultKind, Share); 3] {
        [(FaultKind::Invalid, self.invalid), (FaultKind::Corrupt, self.corrupt), (FaultKind::Duplicate, self.duplicate)]
    }

    /// The fault that falls on event `index`.
    pub(crate) fn at(&self, seed: u64, index: u64) -> Option<Fault> {
        let mut numbers = Keyed::new(key_for(seed, PURPOSE), index);
        let mut place = scale(numbers.next(), Share::ALL.parts_per_billion().into());
        for (kind, share) in self.in_order() {
            let parts = u64::from(share.parts_per_billion());
            if place < parts {
                return Some(match kind {
                    FaultKind::Invalid => Fault::Invalid(Breakage::choose(&mut numbers)),
                    FaultKind::Corrupt => Fault::Corrupt(Corruption::choose(&mut numbers)),
                    FaultKind::Duplicate => Fault::Duplicate,
                });
            }
            place -= parts;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    fn faults(texts: &[&str]) -> Result<Faults, FaultsError> {
        let shares: Vec<FaultShare> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Faults::from_shares(&shares)
    }

    #[test]
    fn shares_of_the_events_are_faulty() {
        let faults = faults(&["invalid=1%", "corrupt=0.5%", "duplicate=0.02"]).unwrap();
        let mut counts = [0_i32; 3];
        for index in 0..1_000_000 {
            if let Some(fault) = faults.at(11, index) {
                counts[fault.kind() as usize] += 1;
            }
        }
        for (count, expected) in counts.into_iter().zip([10_000, 5_000, 20_000]) {
            assert!((count - expected).abs() < 600, "{counts:?}");
        }
    }

    #[test]
    fn all_or_none() {
        let all = faults(&["duplicate=100%"]).unwrap();
        assert!((0..1_000).all(|index| all.at(1, index) == Some(Fault::Duplicate)));
        assert!((0..1_000).all(|index| Faults::default().at(1, index).is_none()));
    }

    #[test]
    fn what_is_no_fault_says_why() {
        let error = |text: &str| text.parse::<FaultShare>().unwrap_err();
        assert!(matches!(error("invalid"), FaultsError::Form(_)));
        assert!(matches!(error("broken=1%"), FaultsError::Kind(_)));
        assert!(matches!(error("invalid=much"), FaultsError::Share { .. }));
        assert_eq!(faults(&["invalid=1%", "invalid=2%"]), Err(FaultsError::Twice(FaultKind::Invalid)));
        assert_eq!(faults(&["invalid=60%", "corrupt=60%"]), Err(FaultsError::TooMany));
    }
}
