//! Events that are wrong on purpose.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::keyed_rng::{KeyedRng, key_for, scale};
use crate::share::{ParseShareError, Share};
use crate::{Corruption, InvalidKind};

/// The key's purpose: which events are faulty has nothing to do with what is in them.
const PURPOSE: u64 = 2;

/// Bursts: which groups of events come at once.
const BURSTS: u64 = 4;

/// Events of a burst, all due when the first of them is.
pub const BURST_EVENTS: u64 = 100;
/// So far back a far duplicate's event is at most, in indices, and never more than come in a day.
pub const FAR_MOST: u64 = 1_000;
/// The least and the most that an event is late, in microseconds: a minute and an hour.
const LATE: std::ops::RangeInclusive<u64> = 60_000_000..=LATE_MOST;
pub(crate) const LATE_MOST: u64 = 3_600_000_000;
/// So many places an event out of order is before its own at most.
const OUT_OF_ORDER_MOST: u64 = 50;
/// Larger shares would fill a block's memory with padding.
const OVERSIZE_MOST: &str = "1%";

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its JSON breaks one rule: validation refuses it and it is never sent.
    Invalid(InvalidKind),
    /// Its bytes are no event, and they are sent all the same.
    Corrupt(Corruption),
    /// Its record is sent twice, one after the other.
    Duplicate,
    /// It carries a copy of the event so many indices before it, which was sent with its own: the copy comes right after
    /// this event's record.
    FarDuplicate(u64),
    /// It is padded to so many bytes more than a record may have, and sent all the same.
    Oversize(u32),
    /// It happened so many microseconds before it is sent.
    Late(i64),
    /// It happened before the event so many places before it: its time is that one's, and a microsecond earlier.
    OutOfOrder(u64),
    /// It is the most active user's, whoever's turn it was.
    HotKey,
    /// It is sent at once with up to [`BURST_EVENTS`] others, when the first of them is due.
    Burst,
}

/// The kinds of faults that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// See [`Fault::Invalid`].
    Invalid,
    /// See [`Fault::Corrupt`].
    Corrupt,
    /// See [`Fault::Duplicate`] and [`Fault::FarDuplicate`]: half of each.
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

    /// The name that people write.
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
    /// The kind of this fault.
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

/// The share of all events that each fault falls on. An event has one fault at most.
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
    #[error(
        "`{0}` is not a kind of fault: there are invalid, corrupt, duplicate, oversize, late, out-of-order, hot-key and burst"
    )]
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
    /// More padding than fits.
    #[error("oversize={0} is too much: {OVERSIZE_MOST} at most, as each of them has 64 KiB and more")]
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
    /// Puts shares together. Fails on a kind that comes twice.
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

    /// The share of a kind.
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

    /// The first event of the burst that event `index` is in.
    pub(crate) fn burst(&self, seed: u64, index: u64) -> Option<u64> {
        let share = u64::from(self.burst.parts_per_billion());
        if share == 0 {
            return None;
        }
        let group = index / BURST_EVENTS;
        let place = KeyedRng::new(key_for(seed, BURSTS), group).below(Share::ALL.parts_per_billion().into());
        (place < share).then_some(group * BURST_EVENTS)
    }

    /// The kind of fault that falls on event `index`, and the numbers for its details. Bursts take whole groups of
    /// events, so the shares of the others are of what they leave.
    fn kind_at(&self, seed: u64, index: u64) -> Option<(FaultKind, KeyedRng)> {
        let mut numbers = KeyedRng::new(key_for(seed, PURPOSE), index);
        if self.burst(seed, index).is_some() {
            return Some((FaultKind::Burst, numbers));
        }
        let whole = Share::ALL.parts_per_billion() - self.burst.parts_per_billion();
        let mut place = scale(numbers.next(), whole.into());
        // New kinds go to the end, so that the events of runs without them stay as they are.
        for kind in FaultKind::ALL {
            let parts = if kind == FaultKind::Burst { 0 } else { u64::from(self.share(kind).parts_per_billion()) };
            if place < parts {
                return Some((kind, numbers));
            }
            place -= parts;
        }
        None
    }

    /// The fault that falls on event `index`. A copy is of an event at most `far_most` indices before it.
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

    /// Near or far; near where the event that would come again was not sent as an event.
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
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

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
        // Of groups there are fewer, so bursts scatter more.
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
