//! Units of the command line: byte sizes, durations and counts.
//!
//! Each type has one parser, which also accepts the output of `Display`. The crates `bytesize` and `humantime` accept
//! more forms: `bytesize` parses `256M` as a decimal unit and rounds fractions, `humantime` has months and years.

use std::fmt::{self, Display};
use std::ops::{Bound, RangeBounds, RangeInclusive};
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
#[error("{problem}; {}", .problem.remedy(*.quantity))]
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
    #[error("not a number")]
    NotANumber,
    #[error("must not be negative")]
    Negative,
    #[error("not a whole number")]
    Fraction,
    #[error("{0} has no unit")]
    NoUnit(String),
    #[error("unknown unit '{0}'")]
    UnknownUnit(String),
    #[error("number too large")]
    TooLarge { maximum: String },
    #[error("{value} is out of range")]
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

    /// Returns the units as a phrase of an error.
    const fn units_in_words(self) -> &'static str {
        match self {
            Self::Bytes => "KiB, MiB, GiB or no unit",
            Self::Time => "ms, s, m, h or d",
            Self::Count => "k, M or no unit",
        }
    }

    /// Parses a quantity of at most `maximum`.
    fn parse(self, text: &str, maximum: u64) -> Result<u64, UnitError> {
        let failed = |problem| UnitError { quantity: self, problem };
        let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        if number.is_empty() {
            return Err(failed(not_a_number(text)));
        }
        if unit.starts_with(['.', ',']) {
            return Err(failed(Problem::Fraction));
        }
        let unit = unit.trim_start();
        let (factor, _) = self.units().iter().find(|(_, names)| names.contains(&unit)).ok_or_else(|| {
            let without_unit = || Problem::NoUnit(number.to_owned());
            failed(if unit.is_empty() { without_unit() } else { Problem::UnknownUnit(unit.to_owned()) })
        })?;
        let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        // The maximum is in the unit of the text, which is the one that the user can correct.
        let too_large = || failed(Problem::TooLarge { maximum: format!("{}{unit}", maximum / factor) });
        value.filter(|value| *value <= maximum).ok_or_else(too_large)
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

/// Returns the problem of a text that does not start with a digit.
fn not_a_number(text: &str) -> Problem {
    let negative = text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
    if negative {
        Problem::Negative
    } else if text.is_empty() {
        Problem::NoNumber
    } else {
        Problem::NotANumber
    }
}

impl Problem {
    fn remedy(&self, quantity: Quantity) -> String {
        match self {
            Self::OutOfRange { range, .. } => return format!("use {range}"),
            Self::TooLarge { maximum } => return format!("the maximum is {maximum}"),
            Self::NoUnit(number) => return format!("write {number}ms, {number}s or {number}m"),
            Self::UnknownUnit(_) => return format!("use {}", quantity.units_in_words()),
            Self::NoNumber | Self::NotANumber | Self::Negative | Self::Fraction => {}
        }
        let example = match quantity {
            Quantity::Bytes => "256MiB",
            Quantity::Time => "90s",
            Quantity::Count => "250k",
        };
        format!("write a whole number with {}, such as {example}", quantity.units_in_words())
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
                    let value = match text.parse::<Self>() {
                        Ok(value) if range.contains(&value) => return Ok(value),
                        Ok(value) => value.to_string(),
                        // The maximum is that of the flag.
                        Err(UnitError { problem: Problem::TooLarge { .. }, .. }) if is_bounded_above(&range) => {
                            text.to_owned()
                        }
                        Err(error) => return Err(error),
                    };
                    Err(UnitError { quantity: $kind, problem: Problem::OutOfRange { value, range: described(&range) } })
                }
            }
        }

        impl FromStr for $type {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                $kind.parse(text, u64::MAX).map(Self)
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

fn is_bounded_above<T>(range: &impl RangeBounds<T>) -> bool {
    !matches!(range.end_bound(), Bound::Unbounded)
}

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
    narrow(Quantity::Count, Quantity::Count.parse(text, maximum::<T>())?)
}

/// Returns a parser for clap that parses a count into an integer type and refuses values outside `range`.
pub fn count_within<T>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + 'static,
{
    let (low, high) = range.into_inner();
    let parse = Count::within(Count(low)..=Count(high));
    move |text| narrow(Quantity::Count, parse(text)?.get())
}

/// Returns a parser for clap that parses a byte size into an integer type and refuses values outside `range`.
pub fn bytes_within<T>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + 'static,
{
    let (low, high) = range.into_inner();
    let parse = ByteSize::within(ByteSize(low)..=ByteSize(high));
    move |text| narrow(Quantity::Bytes, parse(text)?.get())
}

fn narrow<T: TryFrom<u64>>(quantity: Quantity, value: u64) -> Result<T, UnitError> {
    let too_large = || Problem::TooLarge { maximum: maximum::<T>().to_string() };
    T::try_from(value).map_err(|_| UnitError { quantity, problem: too_large() })
}

/// Returns the maximum of an integer type, or that of `u64` if the type is larger.
fn maximum<T: TryFrom<u64>>() -> u64 {
    let mut candidates = (0..u64::BITS).map(|shift| u64::MAX >> shift);
    candidates.find(|candidate| T::try_from(*candidate).is_ok()).unwrap_or(0)
}

/// Formats a number with its digits in groups of three, such as `1,234,567`.
#[must_use]
pub fn grouped(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
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
    }

    #[test]
    fn time_spans() {
        let cases = [("500ms", 500), ("90s", 90_000), ("5 sec", 5_000), ("15m", 900_000), ("15min", 900_000)];
        let longer = [("2h", 7_200_000), ("1d", 86_400_000), ("400day", 34_560_000_000), ("0s", 0)];
        for (text, millis) in cases.into_iter().chain(longer) {
            assert_eq!(parse(text), Ok(TimeSpan(millis)), "{text}");
        }
    }

    #[test]
    fn counts() {
        for (text, count) in [("7", 7), ("250k", 250_000), ("250K", 250_000), ("10M", 10_000_000), ("0", 0)] {
            assert_eq!(parse(text), Ok(Count(count)), "{text}");
        }
    }

    #[test]
    fn errors_of_byte_sizes() {
        let form = "write a whole number with KiB, MiB, GiB or no unit, such as 256MiB";
        for (text, message) in [
            ("", format!("no number; {form}")),
            ("MiB", format!("not a number; {form}")),
            ("+1", format!("not a number; {form}")),
            ("-1", format!("must not be negative; {form}")),
            ("1.5GiB", format!("not a whole number; {form}")),
            ("256MB", "unknown unit 'MB'; use KiB, MiB, GiB or no unit".to_owned()),
            ("256M", "unknown unit 'M'; use KiB, MiB, GiB or no unit".to_owned()),
            ("256mib", "unknown unit 'mib'; use KiB, MiB, GiB or no unit".to_owned()),
            ("1 MiB x", "unknown unit 'MiB x'; use KiB, MiB, GiB or no unit".to_owned()),
            ("99999999999GiB", "number too large; the maximum is 17179869183GiB".to_owned()),
            ("99999999999999999999", "number too large; the maximum is 18446744073709551615".to_owned()),
        ] {
            assert_eq!(parse::<ByteSize>(text), Err(message), "{text}");
        }
    }

    #[test]
    fn errors_of_time_spans() {
        let form = "write a whole number with ms, s, m, h or d, such as 90s";
        for (text, message) in [
            ("", format!("no number; {form}")),
            ("s", format!("not a number; {form}")),
            ("-1s", format!("must not be negative; {form}")),
            ("1.5h", format!("not a whole number; {form}")),
            ("100", "100 has no unit; write 100ms, 100s or 100m".to_owned()),
            ("1 week", "unknown unit 'week'; use ms, s, m, h or d".to_owned()),
            ("1us", "unknown unit 'us'; use ms, s, m, h or d".to_owned()),
            ("1h30m", "unknown unit 'h30m'; use ms, s, m, h or d".to_owned()),
            ("99999999999999999d", "number too large; the maximum is 213503982334d".to_owned()),
        ] {
            assert_eq!(parse::<TimeSpan>(text), Err(message), "{text}");
        }
    }

    #[test]
    fn errors_of_counts() {
        let form = "write a whole number with k, M or no unit, such as 250k";
        for (text, message) in [
            ("", format!("no number; {form}")),
            ("M", format!("not a number; {form}")),
            ("ten", format!("not a number; {form}")),
            ("+3", format!("not a number; {form}")),
            ("--json", format!("not a number; {form}")),
            ("-1", format!("must not be negative; {form}")),
            ("-3M", format!("must not be negative; {form}")),
            ("1.5M", format!("not a whole number; {form}")),
            ("10G", "unknown unit 'G'; use k, M or no unit".to_owned()),
            ("99999999999999M", "number too large; the maximum is 18446744073709M".to_owned()),
        ] {
            assert_eq!(parse::<Count>(text), Err(message), "{text}");
        }
    }

    #[test]
    fn ranges_are_part_of_the_error() {
        let limit = ByteSize::within(ByteSize::from_mib(128)..);
        assert_eq!(limit("128MiB"), Ok(ByteSize(128 << 20)));
        let error = |result: Result<Count, UnitError>| result.unwrap_err().to_string();
        assert_eq!(limit("64MiB").unwrap_err().to_string(), "64MiB is out of range; use at least 128MiB");
        let spans = TimeSpan::within(TimeSpan::SHORTEST..=TimeSpan::from_days(24));
        assert_eq!(spans("0s").unwrap_err().to_string(), "0s is out of range; use 1ms to 24d");
        let counts = Count::within(Count(1)..=Count(1_000_000));
        assert_eq!(error(counts("0")), "0 is out of range; use 1 to 1M");
        assert_eq!(error(counts("2M")), "2M is out of range; use 1 to 1M");
        assert_eq!(error(counts("99999999999999999999")), "99999999999999999999 is out of range; use 1 to 1M");
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
        assert_eq!((count("65k"), bytes_within(0..=65_536)("64KiB")), (Ok(65_000_u16), Ok(65_536_u32)));
        let error = |result: Result<u32, UnitError>| result.unwrap_err().to_string();
        assert_eq!(count::<u16>("66k").unwrap_err().to_string(), "number too large; the maximum is 65k");
        assert_eq!(error(count("4294967296")), "number too large; the maximum is 4294967295");
        assert_eq!(count::<i64>("9223372036854775807"), Ok(i64::MAX));
        let users = count_within::<u32>(1..=10_000_000);
        assert_eq!(users("1k"), Ok(1_000));
        assert_eq!(error(users("0")), "0 is out of range; use 1 to 10M");
        assert_eq!(error(users("99999999999")), "99999999999 is out of range; use 1 to 10M");
        assert_eq!(error(bytes_within(0..=60_000)("60001")), "60001 is out of range; use 0 to 60000");
    }

    #[test]
    fn digits_in_groups() {
        assert_eq!([7, 100_000, 1_234_567].map(grouped), ["7", "100,000", "1,234,567"]);
    }
}
