//! Units of the command line: byte sizes, durations and counts.
//!
//! Each type has one parser, which also accepts the output of `Display`. The crates `bytesize` and `humantime` accept
//! more forms: `bytesize` parses `256M` as a decimal unit and rounds fractions, `humantime` has months and years.

use std::fmt::{self, Display};
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

/// Number of bytes, such as `256MiB`. The units are KiB, MiB and GiB; without a unit the number is in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// Duration in whole milliseconds, such as `90s`. The units are ms, s, m, h and d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(u64);

/// Number of items, such as `250k` or `10M`. The unit is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(u64);

/// Error for a quantity that cannot be parsed or is outside the range of its flag.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {quantity}: {problem}; {}", .problem.remedy(*.quantity))]
pub struct UnitError {
    quantity: Quantity,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    Bytes,
    Time,
    Count,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Problem {
    #[error("no number")]
    NoNumber,
    #[error("no unit")]
    NoUnit,
    #[error("unknown unit '{0}'")]
    UnknownUnit(String),
    #[error("the number is too large")]
    TooLarge,
    #[error("{value} is outside the range")]
    OutOfRange { value: String, range: String },
}

impl Quantity {
    /// Returns the factors with the names of their units. The first name is the one that is printed.
    const fn units(self) -> &'static [(u64, &'static [&'static str])] {
        match self {
            Self::Bytes => &[(1 << 30, &["GiB"]), (1 << 20, &["MiB"]), (1 << 10, &["KiB"]), (1, &[""])],
            Self::Time => &[
                (86_400_000, &["d", "day"]),
                (3_600_000, &["h"]),
                (60_000, &["m", "min"]),
                (1_000, &["s", "sec"]),
                (1, &["ms"]),
            ],
            Self::Count => &[(1_000_000, &["M"]), (1_000, &["k", "K"]), (1, &[""])],
        }
    }

    fn parse(self, text: &str) -> Result<u64, UnitError> {
        let failed = |problem| UnitError { quantity: self, problem };
        let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start();
        if number.is_empty() {
            return Err(failed(Problem::NoNumber));
        }
        let (factor, _) = self.units().iter().find(|(_, names)| names.contains(&unit)).ok_or_else(|| {
            failed(if unit.is_empty() { Problem::NoUnit } else { Problem::UnknownUnit(unit.to_owned()) })
        })?;
        let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        value.ok_or_else(|| failed(Problem::TooLarge))
    }

    /// Writes a value in the largest unit that expresses it exactly.
    fn write(self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Zero is a multiple of every unit.
        let of_zero = if self == Self::Time { 1_000 } else { 1 };
        let fits = |factor: u64| if value == 0 { factor == of_zero } else { value.is_multiple_of(factor) };
        let (factor, names) = self.units().iter().find(|(factor, _)| fits(*factor)).copied().unwrap_or((1, &[""]));
        f.pad(&format!("{}{}", value / factor, names[0]))
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "byte size",
            Self::Time => "duration",
            Self::Count => "count",
        })
    }
}

impl Problem {
    fn remedy(&self, quantity: Quantity) -> String {
        if let Self::OutOfRange { range, .. } = self {
            return format!("use {range}");
        }
        let form = match quantity {
            Quantity::Bytes => "with KiB, MiB, GiB or no unit, such as 256MiB",
            Quantity::Time => "with ms, s, m, h or d, such as 90s",
            Quantity::Count => "with k, M or no unit, such as 250k",
        };
        format!("write a whole number {form}")
    }
}

macro_rules! quantity {
    ($type:ident, $kind:expr) => {
        impl $type {
            /// Returns a parser for clap that refuses values outside `range`.
            pub fn within<R>(range: R) -> impl Fn(&str) -> Result<Self, UnitError> + Clone + Send + Sync + 'static
            where
                R: RangeBounds<Self> + Clone + Send + Sync + 'static,
            {
                move |text| {
                    let value: Self = text.parse()?;
                    if range.contains(&value) {
                        return Ok(value);
                    }
                    let problem = Problem::OutOfRange { value: value.to_string(), range: described(&range) };
                    Err(UnitError { quantity: $kind, problem })
                }
            }
        }

        impl FromStr for $type {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                $kind.parse(text).map(Self)
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $kind.write(self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

quantity!(ByteSize, Quantity::Bytes);
quantity!(TimeSpan, Quantity::Time);
quantity!(Count, Quantity::Count);

fn described<T: Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(low), Bound::Included(high)) => format!("{low} to {high}"),
        (Bound::Included(low), Bound::Unbounded) => format!("at least {low}"),
        (Bound::Unbounded, Bound::Included(high)) => format!("at most {high}"),
        _ => "another one".to_owned(),
    }
}

impl ByteSize {
    /// Creates a size from a number of bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Creates a size from a number of KiB.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// Creates a size from a number of MiB.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as `usize`, saturating at its maximum.
    #[must_use]
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl TimeSpan {
    /// Shortest time span other than zero.
    pub const SHORTEST: Self = Self(1);

    /// Creates a time span from milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Creates a time span from seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// Creates a time span from days of 24 hours.
    #[must_use]
    pub const fn from_days(days: u64) -> Self {
        Self(days * 86_400_000)
    }

    /// Returns the time span in microseconds, saturating at the maximum of `u64`.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0.saturating_mul(1_000)
    }

    /// Returns the time span as a [`Duration`].
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Count {
    /// Creates a count.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Parses a count into an integer type, for flags without a dedicated type.
pub fn count<T: TryFrom<u64>>(text: &str) -> Result<T, UnitError> {
    narrow(Quantity::Count, text)
}

/// Parses a byte size into an integer type.
pub fn bytes<T: TryFrom<u64>>(text: &str) -> Result<T, UnitError> {
    narrow(Quantity::Bytes, text)
}

fn narrow<T: TryFrom<u64>>(quantity: Quantity, text: &str) -> Result<T, UnitError> {
    T::try_from(quantity.parse(text)?).map_err(|_| UnitError { quantity, problem: Problem::TooLarge })
}

/// Formats a number with its digits in groups of three, such as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;

    fn parse<T: FromStr<Err = UnitError>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|error: UnitError| error.to_string())
    }

    #[test]
    fn byte_sizes() {
        for (text, bytes) in
            [("8388608", 8 << 20), ("64KiB", 64 << 10), ("256MiB", 256 << 20), ("2 GiB", 2 << 30), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "256MB", "256M", "256mib", "-1", "+1", "99999999999GiB", "1 MiB x"] {
            let error = parse::<ByteSize>(text).unwrap_err();
            assert!(error.starts_with("invalid byte size: ") && error.contains("; write a whole number"), "{error}");
        }
    }

    #[test]
    fn time_spans() {
        let cases = [("500ms", 500), ("90s", 90_000), ("5 sec", 5_000), ("15m", 900_000), ("15min", 900_000)];
        let longer = [("2h", 7_200_000), ("1d", 86_400_000), ("400day", 34_560_000_000), ("0s", 0)];
        for (text, millis) in cases.into_iter().chain(longer) {
            assert_eq!(parse(text), Ok(TimeSpan(millis)), "{text}");
        }
        for text in ["", "90", "s", "-1s", "1.5h", "1 week", "1us", "1h30m", "99999999999999999d"] {
            let error = parse::<TimeSpan>(text).unwrap_err();
            assert!(error.starts_with("invalid duration: ") && error.contains("; write a whole number"), "{error}");
        }
    }

    #[test]
    fn counts() {
        for (text, count) in [("7", 7), ("250k", 250_000), ("250K", 250_000), ("10M", 10_000_000), ("0", 0)] {
            assert_eq!(parse(text), Ok(Count(count)), "{text}");
        }
        for text in ["", "M", "-1", "1.5M", "ten", "+3", "10G", "99999999999999M"] {
            let error = parse::<Count>(text).unwrap_err();
            assert!(error.starts_with("invalid count: ") && error.contains("; write a whole number"), "{error}");
        }
    }

    #[test]
    fn errors_name_cause_and_remedy() {
        let error = |text: &str| parse::<ByteSize>(text).unwrap_err();
        let form = "write a whole number with KiB, MiB, GiB or no unit, such as 256MiB";
        assert_eq!(error("1MB"), format!("invalid byte size: unknown unit 'MB'; {form}"));
        assert_eq!(error("99999999999GiB"), format!("invalid byte size: the number is too large; {form}"));
        let without_unit = "invalid duration: no unit; write a whole number with ms, s, m, h or d, such as 90s";
        assert_eq!(parse::<TimeSpan>("90"), Err(without_unit.to_owned()));
        let none = "invalid count: no number; write a whole number with k, M or no unit, such as 250k";
        assert_eq!(parse::<Count>("k"), Err(none.to_owned()));
    }

    #[test]
    fn ranges_are_part_of_the_error() {
        let limit = ByteSize::within(ByteSize::from_mib(128)..);
        assert_eq!(limit("128MiB"), Ok(ByteSize(128 << 20)));
        let error = limit("64MiB").unwrap_err().to_string();
        assert_eq!(error, "invalid byte size: 64MiB is outside the range; use at least 128MiB");
        let error = TimeSpan::within(TimeSpan::SHORTEST..=TimeSpan::from_days(24))("0s").unwrap_err().to_string();
        assert_eq!(error, "invalid duration: 0s is outside the range; use 1ms to 24d");
        assert!(Count::within(..=Count(5))("6").is_err() && Count::within(..=Count(5))("5").is_ok());
    }

    #[test]
    fn the_largest_exact_unit_is_printed() {
        let sizes = [0, 1, 1_000, 1_024, 256 << 20, 1 << 30].map(|bytes| ByteSize(bytes).to_string());
        assert_eq!(sizes, ["0", "1", "1000", "1KiB", "256MiB", "1GiB"]);
        let spans = [0, 1, 1_500, 90_000, 3_600_000, 34_560_000_000].map(|millis| TimeSpan(millis).to_string());
        assert_eq!(spans, ["0s", "1ms", "1500ms", "90s", "1h", "400d"]);
        let counts = [0, 7, 1_500, 30_000, 10_000_000].map(|count| Count(count).to_string());
        assert_eq!(counts, ["0", "7", "1500", "30k", "10M"]);
        assert_eq!(format!("{:>6}", ByteSize(1 << 20)), "  1MiB");
    }

    #[test]
    fn values_fit_their_integer_type() {
        assert_eq!((count("65k"), bytes("64KiB")), (Ok(65_000_u16), Ok(65_536_u32)));
        assert!(count::<u16>("66k").unwrap_err().to_string().contains("too large"));
        assert!(bytes::<u32>("4GiB").is_err());
    }

    #[test]
    fn digits_in_groups() {
        assert_eq!([7, 100_000, 1_234_567].map(grouped), ["7", "100,000", "1,234,567"]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(number: u64) {
            prop_assert_eq!(parse(&ByteSize(number).to_string()), Ok(ByteSize(number)));
            prop_assert_eq!(parse(&TimeSpan(number).to_string()), Ok(TimeSpan(number)));
            prop_assert_eq!(parse(&Count(number).to_string()), Ok(Count(number)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (parse::<ByteSize>(&text), parse::<TimeSpan>(&text), parse::<Count>(&text));
        }
    }
}
