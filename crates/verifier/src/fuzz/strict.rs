//! A strict reader of values, written from `docs/product-event.schema.json`, RFC 3339 and RFC 9562.

use std::sync::LazyLock;

use jiff::civil::{Date, date};
use serde_json::Value;

use super::json;

const MAX_BYTES: usize = 65_536;

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../../docs/product-event.schema.json")).unwrap());

/// Returns the values of all fields as in the canonical content. `None` if the value is not a valid event.
pub(super) fn read(value: &[u8]) -> Option<Vec<String>> {
    if value.len() > MAX_BYTES {
        return None;
    }
    let members = json::members(str::from_utf8(value).ok()?)?;
    let field = |name: &Value| {
        let property = &SCHEMA["properties"][name.as_str()?];
        let mut found = members.iter().filter(|(found, _)| found == name);
        match (found.next(), found.next()) {
            (Some((_, raw)), None) => read_field(property, raw),
            (None, None) => property.get("default").and_then(|default| read_field(property, &default.to_string())),
            _ => None,
        }
    };
    SCHEMA["x-columns"].as_array()?.iter().map(field).collect()
}

fn read_field(property: &Value, raw: &str) -> Option<String> {
    if property["type"] == "integer" {
        let number: i64 = raw.parse().ok()?;
        let bounds = property["minimum"].as_i64()?..=property["maximum"].as_i64()?;
        return bounds.contains(&number).then(|| number.to_string());
    }
    let text = json::string(raw)?;
    let length = text.chars().count() as u64;
    let fits = property["minLength"].as_u64().is_none_or(|min| min <= length)
        && property["maxLength"].as_u64().is_none_or(|max| length <= max)
        && (property["pattern"].is_null() || !text.chars().any(|one| matches!(one, '\0'..' ' | '\u{7f}'..='\u{9f}')))
        && property["enum"].as_array().is_none_or(|names| names.iter().any(|name| *name == text));
    match property["format"].as_str() {
        _ if !fits => None,
        Some("uuid") => is_uuid(&text).then(|| text.to_lowercase()),
        Some("date-time") => date_time(text.as_bytes()).map(|micros| micros.to_string()),
        _ => Some(text),
    }
}

fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.bytes().all(|one| one == b'-' || one.is_ascii_hexdigit())
}

/// Returns the microseconds since 1970 of a time in the years 1 to 9999, UTC.
fn date_time(text: &[u8]) -> Option<i64> {
    let fits = |(one, form): (&u8, &u8)| match form {
        b'0' => one.is_ascii_digit(),
        form => one.eq_ignore_ascii_case(form),
    };
    let (start, mut rest) = text.split_at_checked(19)?;
    if !start.iter().zip(b"0000-00-00T00:00:00").all(fits) {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|one| one.is_ascii_digit()).count();
        micros = number(fraction.get(..digits.min(6)).filter(|digits| !digits.is_empty())?)?;
        micros *= 10_i64.pow(6 - u32::try_from(digits.min(6)).ok()?);
        rest = &fraction[digits..];
    }
    let east = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), offset @ ..] if offset.len() == 5 && offset.iter().zip(b"00:00").all(fits) => {
            let (hours, minutes) = (number(&offset[..2])?, number(&offset[3..])?);
            (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 })?
        }
        _ => return None,
    };
    let part = |from: usize, to: usize| i8::try_from(number(&start[from..to])?).ok();
    let day = Date::new(i16::try_from(number(&start[..4])?).ok()?, part(5, 7)?, part(8, 10)?).ok()?;
    // Leap seconds are rejected.
    let time = day.at(part(11, 13)?, 0, 0, 0).with().minute(part(14, 16)?).second(part(17, 19)?).build().ok()?;
    let epoch = date(1970, 1, 1).at(0, 0, 0, 0);
    let since_epoch = |time: jiff::civil::DateTime| time.duration_since(epoch).as_secs();
    let seconds = since_epoch(time) - east;
    let years = since_epoch(date(1, 1, 1).at(0, 0, 0, 0))..=since_epoch(date(9999, 12, 31).at(23, 59, 59, 0));
    years.contains(&seconds).then_some(seconds * 1_000_000 + micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    str::from_utf8(digits).ok()?.parse().ok()
}
