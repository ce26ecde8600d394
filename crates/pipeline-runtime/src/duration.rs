//! Durations on the command line.

use std::time::Duration;

/// A number with a unit: ms, s, m, h or d.
pub fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("not a number with a unit (ms, s, m, h, d), such as 400d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a number with a unit, such as 400d".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}
