//! Parses the timestamps of events, as specified in section 5.6 of RFC 3339.

use jiff::civil::{Date, DateTime, date};

/// Returns the microseconds since 1970 of a time in the years 1 to 9999, UTC. Leap seconds are invalid.
///
/// jiff's own parser accepts other forms too, and neither the last day of the year 9999 nor more than nine decimals.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (start, rest) = text.as_bytes().split_at_checked(19)?;
    let (fraction, offset) = match rest.strip_prefix(b".") {
        Some(rest) => rest.split_at(rest.iter().take_while(|one| one.is_ascii_digit()).count()),
        None => (&b"0"[..], rest),
    };
    let seconds = local_seconds(start)? - offset_seconds(offset)?;
    let years = seconds_of(date(1, 1, 1).at(0, 0, 0, 0))..=seconds_of(date(9999, 12, 31).at(23, 59, 59, 0));
    years.contains(&seconds).then_some(seconds * 1_000_000 + micros(fraction)?)
}

/// Parses a time such as `2026-11-22T09:30:00`.
fn local_seconds(text: &[u8]) -> Option<i64> {
    if !has_form(text, b"0000-00-00T00:00:00") {
        return None;
    }
    let part = |from: usize, to: usize| i8::try_from(number(&text[from..to])?).ok();
    let day = Date::new(i16::try_from(number(&text[..4])?).ok()?, part(5, 7)?, part(8, 10)?).ok()?;
    Some(seconds_of(
        DateTime::new(day.year(), day.month(), day.day(), part(11, 13)?, part(14, 16)?, part(17, 19)?, 0).ok()?,
    ))
}

fn seconds_of(time: DateTime) -> i64 {
    time.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_secs()
}

/// Parses `Z` or an offset such as `+01:30`. Returns the seconds by which local time is ahead of UTC.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), offset @ ..] if has_form(offset, b"00:00") => {
            let (hours, minutes) = (number(&offset[..2])?, number(&offset[3..])?);
            let seconds = (hours * 60 + minutes) * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Parses the digits after the decimal point. Those beyond microseconds are cut off.
fn micros(digits: &[u8]) -> Option<i64> {
    let digits = &digits[..digits.len().min(6)];
    Some(number(digits)? * 10_i64.pow(6 - u32::try_from(digits.len()).ok()?))
}

/// Returns true if the text has a digit for each `0` of the form, and the characters of the form elsewhere.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    let fits =
        |(one, form): (&u8, &u8)| if *form == b'0' { one.is_ascii_digit() } else { one.eq_ignore_ascii_case(form) };
    text.len() == form.len() && text.iter().zip(form).all(fits)
}

fn number(digits: &[u8]) -> Option<i64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_events_may_have() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t01:30:00.5+01:30", 500_000),
            ("1969-12-31T23:59:59.9999999999-00:00", -1),
            ("0000-12-31T23:59:00-00:01", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999999z", 253_402_300_799_999_999),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn other_texts() {
        for text in [
            "2026-11-22",
            "2026-11-22 09:30:00Z",
            "2026-11-22T09:30:00.Z",
            "2016-12-31T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T09:30:00+24:00",
            "2026-11-22T09:30:00Z[UTC]",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
