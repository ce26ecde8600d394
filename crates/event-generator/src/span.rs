//! A length of time as people write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A length of time: `90s`, `15m`, `2h`, `1d`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Span(Duration);

impl Span {
    /// The time in microseconds.
    #[must_use]
    pub(crate) fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("write a whole number and a unit, as in 500ms, 90s, 15m, 2h or 1d")]
pub(crate) struct ParseSpanError;

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or(ParseSpanError)?;
        let (number, unit) = text.split_at(unit_at);
        let millis = match unit.trim_start() {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" | "day" => 86_400_000,
            _ => return Err(ParseSpanError),
        };
        let number: u64 = number.parse().map_err(|_| ParseSpanError)?;
        let millis = number.checked_mul(millis).filter(|&millis| millis > 0).ok_or(ParseSpanError)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn spans_as_people_write_them() {
        let micros = |text: &str| text.parse::<Span>().map(Span::micros);
        assert_eq!(micros("90s"), Ok(90_000_000));
        assert_eq!(micros("15m"), Ok(900_000_000));
        assert_eq!(micros("500ms"), Ok(500_000));
        assert_eq!(micros("1d"), Ok(86_400_000_000));
        for wrong in ["", "90", "s", "0s", "-1s", "1.5h", "1 week", "99999999999999999d"] {
            assert_eq!(micros(wrong), Err(ParseSpanError), "{wrong}");
        }
    }
}
