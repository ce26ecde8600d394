//! Faults injected into events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::keyed_rng::{KeyedRng, key_for, scale};
use crate::share::{ParseShareError, Share};
use crate::{Corruption, InvalidKind};

/// Purpose of the random key. A separate key keeps the choice of faulty events independent of their contents.
const PURPOSE: u64 = 2;

/// Purpose of the random key that selects the groups of events sent in a burst.
const BURSTS: u64 = 4;

/// Number of events in a burst. All are due when the first of them is.
pub const BURST_EVENTS: u64 = 100;
/// Maximum distance of a far duplicate from its original, in indices. Limited further to the run's number of events per
/// day.
pub const FAR_MOST: u64 = 1_000;
/// Range of the lateness of an event in microseconds: one minute to one hour.
const LATE: std::ops::RangeInclusive<u64> = 60_000_000..=LATE_MOST;
pub(crate) const LATE_MOST: u64 = 3_600_000_000;
/// Maximum number of mean intervals by which an event is out of order.
const OUT_OF_ORDER_MOST: u64 = 50;
/// Maximum share of oversized records. Larger shares would fill a block's memory with padding.
const OVERSIZE_MOST: &str = "1%";

/// Fault of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The JSON breaks one rule. Validation rejects the event, and it is never sent to Kafka.
    Invalid(InvalidKind),
    /// The bytes are not an event, but are sent.
    Corrupt(Corruption),
    /// The record is sent twice in a row.
    Duplicate,
    /// This event's record is followed by a copy of the event that many indices before it, which was already sent.
    FarDuplicate(u64),
    /// The value is padded to that many bytes above the maximum size of a record, and sent.
    Oversize(u32),
    /// The event's time is that many microseconds before it is due.
    Late(i64),
    /// The event's time is earlier by that many mean intervals between events plus a microsecond, but by at most one
    /// hour.
    OutOfOrder(u64),
    /// The event belongs to the most active user instead of the session's user.
    HotKey,
    /// The event is sent together with the others of its group of [`BURST_EVENTS`], when the first of them is due.
    Burst,
}

/// Kind of a [`Fault`], as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// See [`Fault::Invalid`].
    Invalid,
    /// See [`Fault::Corrupt`].
    Corrupt,
    /// See [`Fault::Duplicate`] and [`Fault::FarDuplicate`], each with the same probability.
    Duplicate,
    /// See [`Fault::Oversize`].
    Oversize,
    /// See [`Fault::Late`].
    Late,
    /// See [`Fault::OutOfOrder`].
    OutOfOrder,
    /// See [`Fault::HotKey`].
    HotKey,
    /// See [`Fault::Burst`].
    Burst,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Invalid,
        Self::Corrupt,
        Self::Duplicate,
        Self::Oversize,
        Self::Late,
        Self::OutOfOrder,
        Self::HotKey,
        Self::Burst,
    ];

    /// Returns the name of the kind in configuration and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate",
            Self::Oversize => "oversize",
            Self::Late => "late",
            Self::OutOfOrder => "out-of-order",
            Self::HotKey => "hot-key",
            Self::Burst => "burst",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Fault {
    /// Returns the kind of this fault.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        match self {
            Self::Invalid(_) => FaultKind::Invalid,
            Self::Corrupt(_) => FaultKind::Corrupt,
            Self::Duplicate | Self::FarDuplicate(_) => FaultKind::Duplicate,
            Self::Oversize(_) => FaultKind::Oversize,
            Self::Late(_) => FaultKind::Late,
            Self::OutOfOrder(_) => FaultKind::OutOfOrder,
            Self::HotKey => FaultKind::HotKey,
            Self::Burst => FaultKind::Burst,
        }
    }
}

/// Share of events with each fault. An event has at most one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// See [`Fault::Invalid`].
    pub invalid: Share,
    /// See [`Fault::Corrupt`].
    pub corrupt: Share,
    /// See [`FaultKind::Duplicate`].
    pub duplicate: Share,
    /// See [`Fault::Oversize`]. At most 1%.
    pub oversize: Share,
    /// See [`Fault::Late`].
    pub late: Share,
    /// See [`Fault::OutOfOrder`].
    pub out_of_order: Share,
    /// See [`Fault::HotKey`].
    pub hot_key: Share,
    /// See [`Fault::Burst`].
    pub burst: Share,
}

/// Share of one fault, written `invalid=0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultShare {
    /// Kind of fault.
    pub kind: FaultKind,
    /// Share of all events.
    pub share: Share,
}

/// Error returned when the configured faults are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FaultsError {
    /// The equals sign is missing.
    #[error("'{0}' has no '='; write KIND=SHARE, such as invalid=0.5%")]
    Form(String),
    /// The kind does not exist.
    #[error("unknown fault '{0}'; use invalid, corrupt, duplicate, oversize, late, out-of-order, hot-key or burst")]
    Kind(String),
    /// The share cannot be parsed.
    #[error("{kind}: {source}")]
    Share {
        /// Kind of fault.
        kind: FaultKind,
        /// Cause.
        source: ParseShareError,
    },
    /// A kind is given more than once.
    #[error("{0} is given twice; give one share")]
    Twice(FaultKind),
    /// The shares add up to more than 100%.
    #[error("the shares of the faults exceed 100%; lower them, as an event has at most one fault")]
    TooMany,
    /// The share of oversized records is too large.
    #[error("oversize={0} is too large; use at most {OVERSIZE_MOST}, as each such record is larger than 64 KiB")]
    Oversize(Share),
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

impl Serialize for FaultShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FaultShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Faults {
    /// Collects shares. Fails if a kind occurs twice or the shares are too large.
    pub fn from_shares(shares: &[FaultShare]) -> Result<Self, FaultsError> {
        let mut faults = Self::default();
        for (place, FaultShare { kind, share }) in shares.iter().enumerate() {
            if shares[..place].iter().any(|earlier| earlier.kind == *kind) {
                return Err(FaultsError::Twice(*kind));
            }
            *faults.share_mut(*kind) = *share;
        }
        faults.check()?;
        Ok(faults)
    }

    pub(crate) fn check(&self) -> Result<(), FaultsError> {
        let sum: u64 = FaultKind::ALL.into_iter().map(|kind| u64::from(self.share(kind).parts_per_billion())).sum();
        if sum > u64::from(Share::ALL.parts_per_billion()) {
            return Err(FaultsError::TooMany);
        }
        let most = OVERSIZE_MOST.parse().unwrap_or_default();
        if self.oversize > most { Err(FaultsError::Oversize(self.oversize)) } else { Ok(()) }
    }

    /// Returns the share of a kind.
    #[must_use]
    pub const fn share(&self, kind: FaultKind) -> Share {
        match kind {
            FaultKind::Invalid => self.invalid,
            FaultKind::Corrupt => self.corrupt,
            FaultKind::Duplicate => self.duplicate,
            FaultKind::Oversize => self.oversize,
            FaultKind::Late => self.late,
            FaultKind::OutOfOrder => self.out_of_order,
            FaultKind::HotKey => self.hot_key,
            FaultKind::Burst => self.burst,
        }
    }

    const fn share_mut(&mut self, kind: FaultKind) -> &mut Share {
        match kind {
            FaultKind::Invalid => &mut self.invalid,
            FaultKind::Corrupt => &mut self.corrupt,
            FaultKind::Duplicate => &mut self.duplicate,
            FaultKind::Oversize => &mut self.oversize,
            FaultKind::Late => &mut self.late,
            FaultKind::OutOfOrder => &mut self.out_of_order,
            FaultKind::HotKey => &mut self.hot_key,
            FaultKind::Burst => &mut self.burst,
        }
    }

    /// Returns the index of the first event of the burst that contains event `index`, or `None` if it is not in a
    /// burst.
    pub(crate) fn burst(&self, seed: u64, index: u64) -> Option<u64> {
        let share = u64::from(self.burst.parts_per_billion());
        if share == 0 {
            return None;
        }
        let group = index / BURST_EVENTS;
        let place = KeyedRng::new(key_for(seed, BURSTS), group).below(Share::ALL.parts_per_billion().into());
        (place < share).then_some(group * BURST_EVENTS)
    }

    /// Returns the kind of fault of event `index`, and random numbers for its details.
    ///
    /// Bursts take whole groups of events. The other kinds are chosen among the remaining events, with a range reduced
    /// by the share of bursts, so that their shares refer to all events.
    fn kind_at(&self, seed: u64, index: u64) -> Option<(FaultKind, KeyedRng)> {
        let mut numbers = KeyedRng::new(key_for(seed, PURPOSE), index);
        if self.burst(seed, index).is_some() {
            return Some((FaultKind::Burst, numbers));
        }
        let whole = Share::ALL.parts_per_billion() - self.burst.parts_per_billion();
        let mut place = scale(numbers.next(), whole.into());
        // Append new kinds, so that the events of existing runs do not change.
        for kind in FaultKind::ALL {
            let parts = if kind == FaultKind::Burst { 0 } else { u64::from(self.share(kind).parts_per_billion()) };
            if place < parts {
                return Some((kind, numbers));
            }
            place -= parts;
        }
        None
    }

    /// Returns the fault of event `index`. A far duplicate copies an event at most `far_most` indices before it.
    pub(crate) fn at(&self, seed: u64, index: u64, far_most: u64) -> Option<Fault> {
        let (kind, mut numbers) = self.kind_at(seed, index)?;
        Some(match kind {
            FaultKind::Invalid => Fault::Invalid(InvalidKind::choose(&mut numbers)),
            FaultKind::Corrupt => Fault::Corrupt(Corruption::choose(&mut numbers)),
            FaultKind::Duplicate => self.duplicate(seed, index, far_most, &mut numbers),
            FaultKind::Oversize => Fault::Oversize(1 + u32::try_from(numbers.below(4_096)).unwrap_or(0)),
            FaultKind::Late => {
                let late = LATE.start() + numbers.below(LATE.end() - LATE.start() + 1);
                Fault::Late(late.cast_signed())
            }
            FaultKind::OutOfOrder => Fault::OutOfOrder(1 + numbers.below(OUT_OF_ORDER_MOST)),
            FaultKind::HotKey => Fault::HotKey,
            FaultKind::Burst => Fault::Burst,
        })
    }

    /// Returns a near or a far duplicate with the same probability. It is always near if the far one has no original
    /// that was sent as a valid event.
    fn duplicate(&self, seed: u64, index: u64, far_most: u64, numbers: &mut KeyedRng) -> Fault {
        let far = numbers.below(2) == 1;
        let back = 1 + numbers.below(far_most);
        let unsent = [FaultKind::Invalid, FaultKind::Corrupt, FaultKind::Oversize];
        let sent = |index| self.kind_at(seed, index).is_none_or(|(kind, _)| !unsent.contains(&kind));
        if far && index.checked_sub(back).is_some_and(sent) { Fault::FarDuplicate(back) } else { Fault::Duplicate }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn faults(texts: &[&str]) -> Result<Faults, FaultsError> {
        let shares: Vec<FaultShare> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Faults::from_shares(&shares)
    }

    #[test]
    fn shares_of_the_events_are_faulty() {
        let faults = faults(&[
            "invalid=1%",
            "corrupt=0.5%",
            "duplicate=0.02",
            "oversize=1%",
            "late=2%",
            "out-of-order=3%",
            "hot-key=4%",
            "burst=30%",
        ])
        .unwrap();
        let mut counts = [0_i32; 8];
        for index in 0..1_000_000 {
            if let Some(fault) = faults.at(11, index, FAR_MOST) {
                counts[fault.kind() as usize] += 1;
            }
        }
        // There are fewer groups than events, so the number of bursts varies more.
        assert!((counts[7] - 300_000).abs() < 20_000, "{counts:?}");
        for (count, expected) in counts.into_iter().zip([10_000, 5_000, 20_000, 10_000, 20_000, 30_000, 40_000]) {
            assert!((count - expected).abs() < 600 + expected / 20, "{counts:?}");
        }
    }

    #[test]
    fn all_or_none() {
        let all = faults(&["duplicate=100%"]).unwrap();
        assert!((0..1_000).all(|index| all.at(1, index, FAR_MOST).map(Fault::kind) == Some(FaultKind::Duplicate)));
        assert!((0..1_000).all(|index| Faults::default().at(1, index, FAR_MOST).is_none()));
    }

    #[test]
    fn what_is_no_fault_says_why() {
        let error = |text: &str| text.parse::<FaultShare>().unwrap_err();
        assert!(matches!(error("invalid"), FaultsError::Form(_)));
        assert!(matches!(error("broken=1%"), FaultsError::Kind(_)));
        assert!(matches!(error("invalid=much"), FaultsError::Share { .. }));
        assert_eq!(faults(&["invalid=1%", "invalid=2%"]), Err(FaultsError::Twice(FaultKind::Invalid)));
        assert_eq!(faults(&["invalid=60%", "corrupt=60%"]), Err(FaultsError::TooMany));
        assert!(matches!(faults(&["oversize=2%"]), Err(FaultsError::Oversize(_))));
    }
}
