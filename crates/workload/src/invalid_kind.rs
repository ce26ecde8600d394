//! Events whose JSON breaks one rule.

use std::sync::LazyLock;

use event_model::{FIELDS, FieldKind, ProductEvent, Reason, Timestamp, Window};
use serde_json::{Map, Value};

use crate::keyed_rng::KeyedRng;

/// A broken rule: its reason, its field and its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKind {
    reason: Reason,
    field: &'static str,
    way: u64,
}

/// Rules that a JSON object can break, each with the fields that can break it.
///
/// Fields with a default are excluded. They may be missing, and each new one would change the events of existing
/// settings.
static RULES: LazyLock<Vec<(Reason, Vec<&'static str>)>> = LazyLock::new(|| {
    let required = |of: &dyn Fn(FieldKind) -> bool| -> Vec<&'static str> {
        FIELDS.iter().filter(|field| !field.has_default && of(field.kind)).map(|field| field.name).collect()
    };
    let all = required(&|_| true);
    let texts = required(&|kind| kind == FieldKind::Text);
    vec![
        (Reason::DuplicateKey, all.clone()),
        (Reason::MissingField, all.clone()),
        (Reason::NullField, all.clone()),
        (Reason::WrongType, all),
        (Reason::OutOfRange, required(&|kind| kind == FieldKind::Integer)),
        (Reason::BadUuid, required(&|kind| kind == FieldKind::Uuid)),
        (Reason::BadTimestamp, required(&|kind| kind == FieldKind::Timestamp)),
        (Reason::TimestampOutsideWindow, vec!["event_timestamp"]),
        (Reason::UnknownEventType, required(&|kind| kind == FieldKind::EventType)),
        (Reason::TextEmpty, texts.clone()),
        (Reason::TextTooLong, texts.clone()),
        (Reason::TextControlCharacters, texts),
    ]
});

impl InvalidKind {
    /// Returns the only reason for which validation rejects the event.
    #[must_use]
    pub const fn reason(self) -> Reason {
        self.reason
    }

    /// Returns the name of the field that breaks the rule.
    #[must_use]
    pub const fn field(self) -> &'static str {
        self.field
    }

    pub(crate) fn choose(numbers: &mut KeyedRng) -> Self {
        let (reason, fields) = &RULES[numbers.place(RULES.len())];
        Self { reason: *reason, field: fields[numbers.place(fields.len())], way: numbers.next() }
    }

    /// Appends the JSON of a valid event in which the rule is broken. Omits fields that have their default values.
    pub(crate) fn write(self, event: &ProductEvent<'_>, out: &mut Vec<u8>) {
        let mut json = Vec::new();
        event.write_compact_json(&mut json);
        let Ok(Value::Object(sound)) = serde_json::from_slice(&json) else {
            return;
        };
        out.push(b'{');
        for name in FIELDS.iter().map(|field| field.name) {
            let Some(value) = sound.get(name) else { continue };
            if name != self.field {
                write_member(name, value, out);
                continue;
            }
            match self.reason {
                Reason::MissingField => {}
                Reason::DuplicateKey => {
                    write_member(name, value, out);
                    write_member(name, value, out);
                }
                _ => write_member(name, &self.value(value, event), out),
            }
        }
        out.push(b'}');
    }

    /// Returns a value that breaks the rule.
    fn value(self, sound: &Value, event: &ProductEvent<'_>) -> Value {
        match self.reason {
            Reason::WrongType if sound.is_string() => {
                self.one_of(&[Value::from(7), Value::Bool(true), Value::Array(vec![]), object()])
            }
            Reason::WrongType => {
                self.one_of(&[Value::from(sound.to_string()), Value::from(1.0), Value::Bool(true), object()])
            }
            Reason::OutOfRange => self.one_of(&[0, -1, i64::from(i32::MAX) + 1]).into(),
            Reason::BadUuid => self.bad_uuid(event).into(),
            Reason::BadTimestamp => self.bad_timestamp(event).into(),
            Reason::TimestampOutsideWindow => self.outside(event.event_timestamp).to_string().into(),
            Reason::UnknownEventType => {
                let known = event.event_type.as_str();
                let upper = known.to_ascii_uppercase();
                self.one_of(&["cart_filled", "", &upper, &known[1..]]).into()
            }
            Reason::TextEmpty => "".into(),
            Reason::TextTooLong => self.one_of(&["x".repeat(65), "ü".repeat(65)]).into(),
            Reason::TextControlCharacters => self.one_of(&["too\tols", "\0", "line\n", "\u{85}"]).into(),
            _ => Value::Null,
        }
    }

    fn bad_uuid(self, event: &ProductEvent<'_>) -> String {
        let id = event.event_id;
        self.one_of(&[
            "not-a-uuid".to_owned(),
            id.simple().to_string(),
            id.braced().to_string(),
            format!("{}g", &id.to_string()[..35]),
        ])
    }

    fn bad_timestamp(self, event: &ProductEvent<'_>) -> String {
        let at = event.event_timestamp;
        self.one_of(&[
            "yesterday".to_owned(),
            at.micros().to_string(),
            at.to_string().replace('Z', ""),
            "2024-02-30T12:00:00Z".to_owned(),
            "2016-12-31T23:59:60Z".to_owned(),
        ])
    }

    /// Returns a time at least a day outside the [`Window`] of a record sent when the event is due.
    fn outside(self, due: Timestamp) -> Timestamp {
        const DAY: i64 = 86_400_000_000;
        let window = Window::default();
        let days = |span: std::time::Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(0);
        let further = i64::try_from(self.way >> 32).unwrap_or(0) % 300 + 1;
        let days =
            if self.way.is_multiple_of(2) { -(days(window.past) + further) } else { days(window.future) + further };
        Timestamp::from_micros(due.micros() + days * DAY)
    }

    fn one_of<T: Clone>(self, ways: &[T]) -> T {
        let place = crate::keyed_rng::scale(self.way, ways.len() as u64);
        ways[usize::try_from(place).unwrap_or(0)].clone()
    }
}

fn object() -> Value {
    Value::Object(Map::new())
}

fn write_member(name: &str, value: &Value, out: &mut Vec<u8>) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_the_events() {
        let known = |name: &&str| FIELDS.iter().any(|field| field.name == *name);
        assert!(RULES.iter().flat_map(|(_, fields)| fields).all(known));
        assert!(RULES.iter().all(|(_, fields)| !fields.is_empty()));
    }

    /// The excluded reasons concern the value as a whole, so a JSON object with one broken rule cannot have them.
    #[test]
    fn every_rule_of_an_object_is_broken() {
        let of_the_whole =
            [Reason::EmptyValue, Reason::ValueTooLarge, Reason::NotUtf8, Reason::NotJson, Reason::NotAnObject];
        for reason in Reason::ALL {
            let here = RULES.iter().any(|(rule, _)| rule == reason);
            assert_ne!(here, of_the_whole.contains(reason), "{reason:?}");
        }
    }
}
