//! Distribution of events over the day.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rate::EventRate;

/// Density of events at each hour of the day, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Constant density.
    #[default]
    Flat,
    /// Densities of [`DAILY`]. A day has as many events as with [`Shape::Flat`], but fewer of them at night.
    Daily,
}

/// Density of each hour of the day, in tenths of the mean.
pub const DAILY: [u64; 24] = [4, 3, 3, 3, 3, 4, 6, 9, 12, 14, 15, 15, 14, 14, 15, 15, 14, 13, 12, 12, 12, 11, 9, 8];

const FLAT: [u64; 24] = [MEAN; 24];
const MEAN: u64 = 10;
const HOUR: u64 = 3_600_000_000;
const DAY: u64 = 24 * HOUR;
/// Weight of a day: microseconds times tenths of the mean density.
const DAY_WEIGHT: u64 = DAY * MEAN;

/// Error returned when parsing a [`Shape`] fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown shape '{0}'; use flat or daily")]
pub struct ParseShapeError(String);

impl Shape {
    /// Returns the name of the shape in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Daily => "daily",
        }
    }

    const fn densities(self) -> &'static [u64; 24] {
        match self {
            Self::Flat => &FLAT,
            Self::Daily => &DAILY,
        }
    }

    /// Returns the due time of event `index` in microseconds since the epoch.
    ///
    /// It is the time at which the rate, integrated over the curve since `from`, reaches `index` events, rounded down.
    /// Uses integer arithmetic only and saturates at `i64::MAX`.
    pub(crate) fn due(self, rate: EventRate, from: i64, index: u64) -> i64 {
        if self == Self::Flat {
            return from.saturating_add(rate.due(index));
        }
        let (events, micros) = rate.fraction();
        let weight = u128::from(index) * u128::from(micros) * u128::from(MEAN) / u128::from(events);
        let (day, within) = (from.div_euclid(DAY.cast_signed()), from.rem_euclid(DAY.cast_signed()).cast_unsigned());
        let weight = weight + u128::from(self.weight_until(within));
        let days = weight / u128::from(DAY_WEIGHT);
        let within = self.time_of(u64::try_from(weight % u128::from(DAY_WEIGHT)).unwrap_or(0));
        let days = i64::try_from(days).unwrap_or(i64::MAX).saturating_add(day);
        days.saturating_mul(DAY.cast_signed()).saturating_add(within.cast_signed())
    }

    /// Returns the number of events due in `from..to`, in microseconds since the epoch, if event 0 is due at `from`.
    #[must_use]
    pub fn events_between(self, rate: EventRate, from: i64, to: i64) -> u64 {
        let weight_at = |time: i64| {
            let within = time.rem_euclid(DAY.cast_signed()).cast_unsigned();
            i128::from(time.div_euclid(DAY.cast_signed())) * i128::from(DAY_WEIGHT)
                + i128::from(self.weight_until(within))
        };
        let weight = u128::try_from(weight_at(to) - weight_at(from)).unwrap_or(0);
        let (events, micros) = rate.fraction();
        let events = weight.saturating_mul(events.into()).div_ceil(u128::from(micros) * u128::from(MEAN));
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// Returns the earliest start in microseconds since the epoch for which at most `count` events are due before `to`.
    #[must_use]
    pub fn start_before(self, rate: EventRate, to: i64, count: u64) -> i64 {
        // All days are alike, so the start is within a day of the start on a flat curve.
        let flat = to.saturating_sub(rate.due(count));
        let day = DAY.cast_signed();
        let (mut too_early, mut right) = (flat.saturating_sub(day), to.min(flat.saturating_add(day)));
        while right.saturating_sub(too_early) > 1 {
            let middle = too_early + (right - too_early) / 2;
            if self.events_between(rate, middle, to) <= count {
                right = middle;
            } else {
                too_early = middle;
            }
        }
        right
    }

    /// Returns the lowest density in tenths of the mean. No number of events takes longer than at this density.
    pub(crate) fn least(self) -> u64 {
        self.densities().iter().copied().min().unwrap_or(MEAN)
    }

    /// Returns the weight of a day up to a time of day in microseconds.
    fn weight_until(self, within: u64) -> u64 {
        let hour = usize::try_from(within / HOUR).unwrap_or(0);
        let densities = self.densities();
        densities[..hour].iter().sum::<u64>() * HOUR + densities[hour] * (within % HOUR)
    }

    /// Returns the time of day at which the day has a weight: the inverse of [`Shape::weight_until`], rounded down.
    fn time_of(self, weight: u64) -> u64 {
        let mut rest = weight;
        for (hour, density) in (0..).zip(self.densities()) {
            if rest < density * HOUR {
                return hour * HOUR + rest / density;
            }
            rest -= density * HOUR;
        }
        DAY
    }
}

impl FromStr for Shape {
    type Err = ParseShapeError;

    fn from_str(text: &str) -> Result<Self, ParseShapeError> {
        let known = [Self::Flat, Self::Daily].into_iter().find(|shape| shape.as_str() == text);
        known.ok_or_else(|| ParseShapeError(text.to_owned()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    const MIDNIGHT: i64 = 20_000 * 86_400_000_000;

    #[test]
    fn a_day_has_its_events_at_any_shape() {
        let rate: EventRate = "10M/day".parse().unwrap();
        assert_eq!(DAILY.iter().sum::<u64>(), 240);
        for from in [MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + 12_345_678_901] {
            assert_eq!(Shape::Daily.events_between(rate, from, from + DAY.cast_signed()), 10_000_000);
            assert_eq!(Shape::Daily.due(rate, from, 0), from);
            assert_eq!(Shape::Daily.due(rate, from, 10_000_000), from + DAY.cast_signed());
        }
    }

    #[test]
    fn hours_have_their_densities() {
        let rate: EventRate = "24k/day".parse().unwrap();
        for (hour, density) in (0..).zip(DAILY) {
            let start = MIDNIGHT + hour * HOUR.cast_signed();
            assert_eq!(Shape::Daily.events_between(rate, start, start + HOUR.cast_signed()), density * 100, "{hour}");
        }
    }

    proptest! {
        #[test]
        fn a_curve_without_hills_is_flat(index in 0..1_u64 << 38, from in 0..1_i64 << 55, per_day in 1_u64..1_000_000) {
            let rate: EventRate = format!("{per_day}/day").parse().unwrap();
            let to = from.saturating_add(i64::try_from(index >> 8).unwrap());
            prop_assert_eq!(Shape::Flat.events_between(rate, from, to), rate.events_within((to - from).unsigned_abs()));
        }

        #[test]
        fn as_many_are_due_as_are_counted(
            per_day in 1_u64..100_000_000_000,
            from in 0..1_i64 << 50,
            micros in 1..1_000_000_000_000_i64,
        ) {
            let rate: EventRate = format!("{per_day}/day").parse().unwrap();
            for shape in [Shape::Flat, Shape::Daily] {
                let count = shape.events_between(rate, from, from + micros);
                prop_assert!(shape.due(rate, from, count) >= from + micros);
                prop_assert!(shape.due(rate, from, count - 1) < from + micros);
                let start = shape.start_before(rate, from + micros, count);
                prop_assert!(start <= from, "{} {}", start, from);
                prop_assert_eq!(shape.events_between(rate, start, from + micros), count);
            }
        }
    }
}
