//! Instants with microsecond resolution, parsed and formatted as in RFC 3339.

use std::fmt;
use std::iter;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_HOUR: i64 = SECONDS_PER_HOUR * MICROS_PER_SECOND;
/// 0001-01-01T00:00:00Z, the start of the first year that PostgreSQL prints without "BC".
const MIN_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can express.
const MAX_SECONDS: i64 = 253_402_300_799;

/// An instant: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Parsed timestamps lie in the years 1 to 9999, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Earliest instant that can be parsed: 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(MIN_SECONDS * MICROS_PER_SECOND);
    /// Latest instant that can be parsed: 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(MAX_SECONDS * MICROS_PER_SECOND + MICROS_PER_SECOND - 1);

    /// Creates an instant from the microseconds since the epoch.
    ///
    /// The instant may lie outside [`MIN`](Self::MIN) ..= [`MAX`](Self::MAX). Years other than 0 to 9999 are formatted
    /// with a sign and at least four digits, the expanded form of ISO 8601, which RFC 3339 does not allow.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the UTC hour that contains the instant.
    #[must_use]
    pub const fn hour(self) -> Hour {
        Hour(self.0.div_euclid(MICROS_PER_HOUR))
    }

    /// Returns the whole days since 1970-01-01, UTC.
    #[must_use]
    pub const fn days(self) -> i64 {
        self.0.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND)
    }

    /// Formats the instant as `2026-11-22T09:30:00.000123Z` or, for another year, `+58024-05-17T05:46:40.000000Z`.
    fn text(self) -> String {
        let text = self.write();
        let text = str::from_utf8(&text).unwrap_or_default();
        match civil(self.days()).0 {
            0..=9_999 => text.to_owned(),
            year => format!("{}{:04}{}", if year < 0 { '-' } else { '+' }, year.unsigned_abs(), &text[4..]),
        }
    }

    /// Formats an instant in the years 0 to 9999 as 27 bytes, such as `2026-11-22T09:30:00.000123Z`.
    pub(crate) fn write(self) -> [u8; 27] {
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[0..4], year.rem_euclid(10_000));
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], of_day / SECONDS_PER_HOUR);
        digits(&mut text[14..16], of_day / 60 % 60);
        digits(&mut text[17..19], of_day % 60);
        digits(&mut text[20..26], micros);
        text
    }
}

/// Error returned for a text that is not a valid timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an RFC 3339 timestamp between the years 1 and 9999, such as 2026-11-22T09:30:00.000123Z")]
pub struct BadTimestamp;

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    /// Parses a timestamp as in section 5.6 of RFC 3339, with any offset.
    ///
    /// Fractions are truncated to microseconds. Second 60 is rejected, because PostgreSQL and Arrow cannot represent
    /// it.
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        let text = text.as_bytes();
        let (stamp, rest) = text.split_at_checked(19).ok_or(BadTimestamp)?;
        let separators = [stamp[4], stamp[7], stamp[10] | 0x20, stamp[13], stamp[16]];
        if separators != *b"--t::" {
            return Err(BadTimestamp);
        }
        let year = number(&stamp[0..4], 0, 9_999)?;
        let month = number(&stamp[5..7], 1, 12)?;
        let day = number(&stamp[8..10], 1, days_in_month(year, month))?;
        let hour = number(&stamp[11..13], 0, 23)?;
        let minute = number(&stamp[14..16], 0, 59)?;
        let second = number(&stamp[17..19], 0, 59)?;
        let (micros, rest) = fraction(rest)?;
        let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * SECONDS_PER_HOUR + minute * 60 + second
            - offset_seconds(rest)?;
        if (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
            Ok(Self(seconds * MICROS_PER_SECOND + micros))
        } else {
            Err(BadTimestamp)
        }
    }
}

fn number(text: &[u8], least: i64, most: i64) -> Result<i64, BadTimestamp> {
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(BadTimestamp);
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    if (least..=most).contains(&value) { Ok(value) } else { Err(BadTimestamp) }
}

/// Parses an optional fraction of a second. Returns its microseconds and the remaining text.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), BadTimestamp> {
    let Some(text) = text.strip_prefix(b".") else {
        return Ok((0, text));
    };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return Err(BadTimestamp);
    }
    let (digits, rest) = text.split_at(length);
    let padded = digits.iter().chain(iter::repeat(&b'0')).take(6);
    let micros = padded.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    Ok((micros, rest))
}

fn offset_seconds(text: &[u8]) -> Result<i64, BadTimestamp> {
    match text {
        b"Z" | b"z" => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = number(&[*h1, *h2], 0, 23)?;
            let minutes = number(&[*m1, *m2], 0, 59)?;
            let seconds = hours * SECONDS_PER_HOUR + minutes * 60;
            Ok(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => Err(BadTimestamp),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years start in March here, so that
/// the leap day is the last day of the year. An era is 400 years, or 146,097 days.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns the year, month and day of a number of days: the inverse of [`days`].
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Fills `out` with the last decimal digits of a non-negative number.
fn digits(out: &mut [u8], mut value: i64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 timestamp")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A UTC hour: hours since 1970-01-01T00:00:00Z. Lake files and the counts in the manifest are grouped by hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// Creates an hour from the hours since the epoch.
    #[must_use]
    pub const fn from_hours(hours: i64) -> Self {
        Self(hours)
    }

    /// Returns the first instant of the hour.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0 * MICROS_PER_HOUR)
    }

    /// Returns the end of the hour (exclusive): the start of the next one.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp((self.0 + 1) * MICROS_PER_HOUR)
    }

    /// Returns the UTC date, such as `2026-11-22`.
    #[must_use]
    pub fn date(self) -> String {
        let (mut date, _) = self.split();
        date.truncate(date.len() - 1);
        date
    }

    /// Returns the date and the hour of the day, such as `2026-11-22T` and `09`.
    fn split(self) -> (String, String) {
        let mut date = self.start().text();
        // The time of day takes 16 bytes in all years.
        let time = date.split_off(date.len() - 16);
        (date, time[..2].to_owned())
    }

    /// Returns the hour of the day, 0 to 23.
    #[must_use]
    pub fn hour_of_day(self) -> u8 {
        u8::try_from(self.0.rem_euclid(24)).unwrap_or(0)
    }
}

impl fmt::Display for Hour {
    /// Formats the hour as `2026-11-22T09`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, hour) = self.split();
        f.pad(&(date + &hour))
    }
}

impl FromStr for Hour {
    type Err = BadTimestamp;

    /// Parses an hour such as `2026-11-22T09`, the format of [`Display`](fmt::Display).
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        if text.len() == 13 {
            format!("{text}:00:00Z").parse::<Timestamp>().map(Timestamp::hour)
        } else {
            Err(BadTimestamp)
        }
    }
}

impl Serialize for Hour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_and_fractions() {
        let micros = |text: &str| text.parse::<Timestamp>().unwrap().micros();
        assert_eq!(micros("1970-01-01T00:00:00Z"), 0);
        assert_eq!(micros("1970-01-01t01:30:00.5+01:30"), 500_000);
        assert_eq!(micros("1969-12-31T23:59:59.999999999-00:00"), -1);
        assert_eq!(micros("2000-02-29T00:00:00z"), 951_782_400_000_000);
        assert_eq!("0001-01-01T00:00:00Z".parse(), Ok(Timestamp::MIN));
        assert_eq!("9999-12-31T23:59:59.999999Z".parse(), Ok(Timestamp::MAX));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T09:30:00",
            "2026-11-22 09:30:00Z",
            "2026-11-22T09:30:00.Z",
            "2026-11-22T09:30:60Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T09:30:00+24:00",
            "2026-11-22T09:30:00+0100",
            "2026-11-22T09:30:00Zx",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "0000-06-01T00:00:00Z",
            "+026-11-22T09:30:00Z",
            "２０２６-11-22T09:30:00Z",
            "2026-11-22T09:30:00,5Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(BadTimestamp), "{text}");
        }
    }

    #[test]
    fn hours() {
        let hour = "2026-11-22T09:59:59.999999Z".parse::<Timestamp>().unwrap().hour();
        assert_eq!(
            (hour.date().as_str(), hour.hour_of_day(), hour.to_string().as_str()),
            ("2026-11-22", 9, "2026-11-22T09")
        );
        assert_eq!(Timestamp::from_micros(-1).hour().to_string(), "1969-12-31T23");
        assert_eq!(Timestamp::from_micros(i64::MAX).hour().to_string(), "+294247-01-10T04");
        assert_eq!(Timestamp::from_micros(i64::MAX).hour().date(), "+294247-01-10");
        assert_eq!("2026-11-22T09".parse(), Ok(hour));
    }

    #[test]
    fn years_of_other_than_four_digits_have_a_sign() {
        let text = |micros| Timestamp::from_micros(micros).to_string();
        assert_eq!(text(1_769_000_000_000_000_000), "+58027-05-19T00:53:20.000000Z");
        assert_eq!(text(i64::MAX), "+294247-01-10T04:00:54.775807Z");
        assert_eq!(text(i64::MIN), "-290308-12-21T19:59:05.224192Z");
        assert_eq!(text(Timestamp::MAX.micros() + 1), "+10000-01-01T00:00:00.000000Z");
        assert_eq!(text(Timestamp::MIN.micros() - 1), "0000-12-31T23:59:59.999999Z");
        assert_eq!(format!("{:>32}", Timestamp::from_micros(i64::MAX)), "  +294247-01-10T04:00:54.775807Z");
        assert_eq!(
            serde_json::to_string(&Timestamp::from_micros(i64::MAX)).unwrap(),
            r#""+294247-01-10T04:00:54.775807Z""#
        );
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(micros in Timestamp::MIN.micros()..=Timestamp::MAX.micros(), zone in -93_599..=93_599_i32) {
            let ours = Timestamp::from_micros(micros);
            prop_assert_eq!(ours.to_string().parse(), Ok(ours));
            let Ok(theirs) = jiff::Timestamp::from_microsecond(micros) else { return Ok(()) };
            prop_assert_eq!(ours.to_string(), format!("{theirs:.6}"));
            let zone = zone / 60 % (23 * 60 + 59) * 60;
            let local = jiff::tz::Offset::from_seconds(zone).unwrap().to_datetime(theirs);
            if (1..=9_999).contains(&local.year()) {
                let text = format!("{local:.6}{}{:02}:{:02}", if zone < 0 { '-' } else { '+' }, zone.abs() / 3_600, zone.abs() / 60 % 60);
                prop_assert_eq!(text.parse(), Ok(ours), "{}", text);
            }
        }
    }
}
