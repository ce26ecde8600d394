//! Exact shares of a whole.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::decimal::{self, Decimal};

const BILLION: u32 = 1_000_000_000;

/// A share from 0 to 100%, in parts per billion. Written `0.5%` or `0.005`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// A share of 0%.
    pub const NONE: Self = Self(0);
    /// A share of 100%.
    pub const ALL: Self = Self(BILLION);

    /// Returns the share in parts per billion, 0 to 1,000,000,000.
    #[must_use]
    pub const fn parts_per_billion(self) -> u32 {
        self.0
    }
}

/// Error returned when parsing a [`Share`] fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseShareError {
    /// The text is not a number.
    #[error("'{0}' is not a share; write 0.5% or 0.005")]
    Number(String),
    /// The share exceeds 100%.
    #[error("{0} is out of range; use 0% to 100%")]
    TooMuch(String),
    /// The percent sign is missing, and the number is 1 or more.
    #[error("{0} is ambiguous; write {0}% or a fraction below 1, such as 0.01")]
    Ambiguous(String),
    /// The share is not a whole number of billionths.
    #[error("{0} is too fine; use a multiple of 0.0000001%")]
    TooFine(String),
}

impl FromStr for Share {
    type Err = ParseShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let percent = text.strip_suffix('%');
        let (number, places) = percent.map_or((text, 9), |number| (number.trim_end(), 7));
        let number = Decimal::parse(number).ok_or_else(|| ParseShareError::Number(text.to_owned()))?;
        let parts = (number.in_units_of(places)).ok_or_else(|| ParseShareError::TooFine(text.to_owned()))?;
        // A bare `1` may mean 1% or 100%.
        if percent.is_none() && parts >= u128::from(BILLION) {
            return Err(ParseShareError::Ambiguous(text.to_owned()));
        }
        match u32::try_from(parts) {
            Ok(parts) if parts <= BILLION => Ok(Self(parts)),
            _ => Err(ParseShareError::TooMuch(text.to_owned())),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", decimal::text_of(self.0.into(), 7))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn shares_are_exact() {
        let parts = |text: &str| text.parse::<Share>().unwrap().parts_per_billion();
        assert_eq!(parts("0.5%"), 5_000_000);
        assert_eq!(parts("0.005"), 5_000_000);
        assert_eq!(parts("100%"), 1_000_000_000);
        assert_eq!(parts("0"), 0);
        assert_eq!(parts("0.0000001 %"), 1);
    }

    #[test]
    fn what_is_no_share_says_why() {
        use ParseShareError as E;
        let error = |text: &str| text.parse::<Share>().unwrap_err();
        assert!(matches!(error(""), E::Number(_)));
        assert!(matches!(error("half"), E::Number(_)));
        assert!(matches!(error("-1%"), E::Number(_)));
        assert!(matches!(error("101%"), E::TooMuch(_)));
        assert!(matches!(error("1"), E::Ambiguous(_)));
        assert!(matches!(error("0.00000001%"), E::TooFine(_)));
    }
}
