//! A strict reader of values, written from `docs/product-event.schema.json` and RFC 9562.

use std::sync::LazyLock;

use serde_json::Value;

use super::json;
use crate::time;

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
        Some("date-time") => time::parse(&text).map(|micros| micros.to_string()),
        _ => Some(text),
    }
}

fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.bytes().all(|one| one == b'-' || one.is_ascii_hexdigit())
}
