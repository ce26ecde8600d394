//! Exact event rates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::decimal::{self, Decimal};

/// Maximum number of decimal places in a rate.
const PLACES: u32 = 6;

/// Units, the shortest first: name to print, length in seconds and names to parse.
const UNITS: [(&str, u128, &[&str]); 4] = [
    ("s", 1, &["s", "sec", "second"]),
    ("min", 60, &["min", "m", "minute"]),
    ("h", 3_600, &["h", "hour"]),
    ("day", 86_400, &["day", "d"]),
];

/// Digits of a whole number above which any rate is too high: 100 million events per second have 13 digits per day.
const MAX_WHOLE_DIGITS: usize = 13;

/// A higher rate is probably a typo, and its fraction might not fit `u64`.
const MAX_PER_SECOND: u128 = 100_000_000;

/// An exact event rate, stored as a fraction.
///
/// Written as a number, an optional `k` or `M`, and a unit: `10M/day`, `2500/s`, `0.5/s`, `1k/min`, `3/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventRate {
    /// In lowest terms with `micros`.
    events: u64,
    micros: u64,
}

impl EventRate {
    /// Returns the due time of event `index` in microseconds after the start: `index / rate`, rounded down.
    ///
    /// Integer arithmetic keeps the schedule from drifting. Saturates at `i64::MAX`.
    #[must_use]
    pub fn due(self, index: u64) -> i64 {
        let micros = u128::from(index) * u128::from(self.micros) / u128::from(self.events);
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    /// Returns the number of events due in the first `micros` microseconds. The range includes time 0 and excludes its
    /// end.
    ///
    /// Saturates at `u64::MAX`.
    #[must_use]
    pub fn events_within(self, micros: u64) -> u64 {
        // due(i) < m  <=>  i * micros / events < m, rounded down or not, because m is an integer.
        let events = (u128::from(micros) * u128::from(self.events)).div_ceil(u128::from(self.micros));
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// Returns the rate as a number of events per number of microseconds, in lowest terms.
    #[must_use]
    pub const fn fraction(self) -> (u64, u64) {
        (self.events, self.micros)
    }

    fn new(events: u128, micros: u128) -> Option<Self> {
        let divisor = greatest_common_divisor(events, micros);
        Some(Self { events: u64::try_from(events / divisor).ok()?, micros: u64::try_from(micros / divisor).ok()? })
    }

    /// Returns the number of events in `seconds` seconds in units of `10^-PLACES`, or `None` if it is not a whole
    /// number.
    fn in_unit(self, seconds: u128) -> Option<u128> {
        let scaled = u128::from(self.events) * seconds * 1_000_000 * 10_u128.pow(PLACES);
        let micros = u128::from(self.micros);
        scaled.is_multiple_of(micros).then_some(scaled / micros)
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Error returned when parsing an [`EventRate`] fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseRateError {
    /// The unit is missing.
    #[error("{0} has no unit; write {0}/s, {0}/min, {0}/h or {0}/day")]
    NoUnit(String),
    /// The unit is unknown.
    #[error("unknown unit '{0}'; use s, min, h or day")]
    Unit(String),
    /// The number before the unit is invalid.
    #[error("'{0}' is not a number; write a rate such as 10M/day, 2500/s, 1k/min or 0.5/s")]
    Number(String),
    /// The number has too many decimals.
    #[error("{0} has more than six decimals; use a longer unit, such as 3/h")]
    Decimals(String),
    /// The rate is zero or negative.
    #[error("rate must be greater than 0; write a rate such as 1/h")]
    NotPositive,
    /// The rate exceeds 100 million events per second.
    #[error("rate too high; the maximum is 100M/s")]
    TooFast,
}

impl FromStr for EventRate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = text.split_once('/').map_or((text, None), |(number, unit)| (number, Some(unit)));
        let number = number.trim();
        // The number comes first: "0" without a unit is a wrong number above all.
        let events = parse_events(number)?;
        let unit = unit.map(str::trim).filter(|unit| !unit.is_empty());
        let unit = unit.ok_or_else(|| ParseRateError::NoUnit(number.to_owned()))?.to_ascii_lowercase();
        let (_, seconds, _) = (UNITS.iter())
            .find(|(_, _, names)| names.contains(&unit.as_str()))
            .ok_or_else(|| ParseRateError::Unit(unit.clone()))?;
        let one = 10_u128.pow(PLACES);
        if events > MAX_PER_SECOND * seconds * one {
            return Err(ParseRateError::TooFast);
        }
        Self::new(events, seconds * 1_000_000 * one).ok_or(ParseRateError::TooFast)
    }
}

/// Parses a positive number of events in units of `10^-PLACES`.
fn parse_events(number: &str) -> Result<u128, ParseRateError> {
    if number.strip_prefix('-').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())) {
        return Err(ParseRateError::NotPositive);
    }
    let (digits, factor) = match number.as_bytes().last() {
        Some(b'k' | b'K') => (&number[..number.len() - 1], 1_000),
        Some(b'M') => (&number[..number.len() - 1], 1_000_000),
        _ => (number, 1),
    };
    let decimal = Decimal::parse(digits).ok_or_else(|| {
        // A number with too many digits is not parsed either.
        if digits.len() > MAX_WHOLE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            ParseRateError::TooFast
        } else {
            ParseRateError::Number(number.to_owned())
        }
    })?;
    let events =
        decimal.times(factor).in_units_of(PLACES).ok_or_else(|| ParseRateError::Decimals(number.to_owned()))?;
    if events == 0 { Err(ParseRateError::NotPositive) } else { Ok(events) }
}

impl fmt::Display for EventRate {
    /// Prints the first unit in which the rate is a whole number. Seconds may have three decimals.
    ///
    /// If there is no such unit, prints the first in which the rate is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = || UNITS.iter().filter_map(|(unit, seconds, _)| Some((self.in_unit(*seconds)?, *unit)));
        let plain = |(events, unit): &(u128, &str)| {
            let decimals = if *unit == "s" { 3 } else { 0 };
            events.is_multiple_of(10_u128.pow(PLACES - decimals))
        };
        // Every rate is parsed from one of the units, so at least one of them is exact.
        let (events, unit) = exact().find(plain).or_else(|| exact().next()).unwrap_or_default();
        f.write_str(&text(events, unit))
    }
}

fn text(events: u128, unit: &str) -> String {
    let one = 10_u128.pow(PLACES);
    let (events, suffix) = match events / one {
        whole if !events.is_multiple_of(one) || !whole.is_multiple_of(1_000) => (events, ""),
        whole if !whole.is_multiple_of(1_000_000) => (events / 1_000, "k"),
        _ => (events / 1_000_000, "M"),
    };
    format!("{}{suffix}/{unit}", decimal::text_of(events, PLACES))
}

impl Serialize for EventRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> EventRate {
        text.parse().unwrap()
    }

    #[test]
    fn due_times_hold_exactly() {
        assert_eq!(rate("0.5/s").due(7), 14_000_000);
        assert_eq!(rate("2500/s").due(1), 400);
        // Ten million events a day take exactly one day.
        assert_eq!(rate("10M/day").due(10_000_000), 86_400_000_000);
        assert_eq!(rate("10M/day").due(1), 8_640);
        assert_eq!(rate("3/s").due(3_000_000_001), 1_000_000_000_333_333);
        assert_eq!(rate("1/day").due(1 << 37), i64::MAX);
    }

    #[test]
    fn units_and_suffixes() {
        assert_eq!(rate("60/min"), rate("1/s"));
        assert_eq!(rate("1k/min"), rate("60K/hour"));
        assert_eq!(rate("0.01M/d"), rate("10000/day"));
    }

    #[test]
    fn printed_as_people_would_write_it() {
        for (written, printed) in [
            ("10M/day", "10M/day"),
            ("2500/s", "2500/s"),
            ("0.5/s", "0.5/s"),
            ("1k/min", "1k/min"),
            ("3/h", "3/h"),
            ("86400/day", "1/s"),
        ] {
            assert_eq!(rate(written).to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_rate_says_why() {
        for (text, message) in [
            ("10", "10 has no unit; write 10/s, 10/min, 10/h or 10/day"),
            ("2.5k", "2.5k has no unit; write 2.5k/s, 2.5k/min, 2.5k/h or 2.5k/day"),
            ("10/week", "unknown unit 'week'; use s, min, h or day"),
            ("10/", "10 has no unit; write 10/s, 10/min, 10/h or 10/day"),
            ("/s", "'' is not a number; write a rate such as 10M/day, 2500/s, 1k/min or 0.5/s"),
            ("fast", "'fast' is not a number; write a rate such as 10M/day, 2500/s, 1k/min or 0.5/s"),
            ("ten/s", "'ten' is not a number; write a rate such as 10M/day, 2500/s, 1k/min or 0.5/s"),
            ("1.2.3/s", "'1.2.3' is not a number; write a rate such as 10M/day, 2500/s, 1k/min or 0.5/s"),
            ("0.0000000001/s", "0.0000000001 has more than six decimals; use a longer unit, such as 3/h"),
            ("0", "rate must be greater than 0; write a rate such as 1/h"),
            ("0/s", "rate must be greater than 0; write a rate such as 1/h"),
            ("-1/s", "rate must be greater than 0; write a rate such as 1/h"),
            ("-5", "rate must be greater than 0; write a rate such as 1/h"),
            ("2000M/s", "rate too high; the maximum is 100M/s"),
            ("99999999999999999999/s", "rate too high; the maximum is 100M/s"),
            ("999999999999999999M/day", "rate too high; the maximum is 100M/s"),
        ] {
            assert_eq!(text.parse::<EventRate>().unwrap_err().to_string(), message, "{text}");
        }
    }

    proptest! {
        #[test]
        fn as_many_are_due_as_are_counted(
            per_day in 1_u64..100_000_000_000,
            micros in 1_u64..1_000_000_000_000,
        ) {
            let rate: EventRate = format!("{per_day}/day").parse().unwrap();
            let count = rate.events_within(micros);
            prop_assert!(rate.due(count) >= i64::try_from(micros).unwrap());
            prop_assert!(rate.due(count - 1) < i64::try_from(micros).unwrap());
        }
    }
}
