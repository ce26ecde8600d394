//! A number of events as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number of events: `10M`, `250k`, `1000000`. At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Count(u64);

impl Count {
    /// The number.
    #[must_use]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// A text that is no number of events.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("write a whole number of at least 1, with k or M if you like, as in 1000000 or 10M")]
pub(crate) struct ParseCountError;

impl FromStr for Count {
    type Err = ParseCountError;

    fn from_str(text: &str) -> Result<Self, ParseCountError> {
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
            Some(b'M') => (&text[..text.len() - 1], 1_000_000),
            _ => (text, 1),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseCountError);
        }
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        number.filter(|&number| number > 0).map(Self).ok_or(ParseCountError)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits in groups of three.
#[must_use]
pub(crate) fn grouped(number: u64) -> String {
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn counts_as_people_write_them() {
        let count = |text: &str| text.parse::<Count>().map(Count::get);
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(count("250k"), Ok(250_000));
        assert_eq!(count("7"), Ok(7));
        for wrong in ["", "M", "0", "-1", "1.5M", "ten", "+3", "99999999999999M"] {
            assert_eq!(count(wrong), Err(ParseCountError), "{wrong}");
        }
    }

    #[test]
    fn digits_in_groups() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(100_000), "100,000");
    }
}
