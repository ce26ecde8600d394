//! Exact decimal numbers.

/// The number `digits / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) digits: u128,
    pub(crate) scale: u32,
}

/// Maximum number of digits; later `u128` arithmetic cannot overflow with them.
const MAX_DIGITS: usize = 18;

impl Decimal {
    /// Parses a number such as `12`, `0.5` or `.5`: ASCII digits with at most one decimal point, no sign, no exponent.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction = fraction.trim_end_matches('0');
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let has_a_digit = text.bytes().any(|byte| byte.is_ascii_digit());
        if !has_a_digit || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        if whole.len() + fraction.len() > MAX_DIGITS {
            return None;
        }
        let digits =
            (whole.bytes().chain(fraction.bytes())).fold(0, |value, digit| value * 10 + u128::from(digit - b'0'));
        Some(Self { digits, scale: u32::try_from(fraction.len()).ok()? })
    }

    pub(crate) fn times(self, factor: u128) -> Self {
        Self { digits: self.digits * factor, ..self }
    }

    /// Returns the value in units of `1 / 10^places`, or `None` if it is not a whole number of them.
    pub(crate) fn in_units_of(self, places: u32) -> Option<u128> {
        if self.scale <= places {
            return Some(self.digits * 10_u128.pow(places - self.scale));
        }
        let divisor = 10_u128.pow(self.scale - places);
        self.digits.is_multiple_of(divisor).then_some(self.digits / divisor)
    }
}

/// Formats `value / 10^places` without trailing zeros: the inverse of [`Decimal::parse`].
pub(crate) fn text_of(value: u128, places: u32) -> String {
    let unit = 10_u128.pow(places);
    let whole = value / unit;
    let fraction = value % unit;
    if fraction == 0 {
        return whole.to_string();
    }
    let width = places as usize;
    let fraction = format!("{fraction:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Decimal::parse("0.5").and_then(|d| d.in_units_of(9)), Some(500_000_000));
        assert_eq!(Decimal::parse("12.50").and_then(|d| d.in_units_of(1)), Some(125));
        assert_eq!(Decimal::parse(".25").and_then(|d| d.in_units_of(1)), None);
        for wrong in ["", ".", "-1", "+1", "1e3", "1.2.3", "1_000", "0x1", "1234567890123456789"] {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn text_comes_back() {
        assert_eq!(text_of(500_000_000, 9), "0.5");
        assert_eq!(text_of(12_000, 3), "12");
        assert_eq!(text_of(1, 3), "0.001");
    }
}
