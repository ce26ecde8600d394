//! Fuzz target: the rules of `event-model`, a second strict reader and the verifier agree on every value.

mod json;
mod strict;

use event_model::{Window, parse};

use crate::event::{Event, Members};
use crate::field::fields;

#[test]
fn events() {
    fuzz::check("events", |value: &[u8]| {
        let rules = parse(Some(value), None, Window::default());
        let strict = strict::read(value);
        assert_eq!(rules.is_ok(), strict.is_some(), "the rules: {rules:?}, the strict reader: {strict:?}");
        if let (Ok(event), Some(values)) = (rules, strict) {
            let mut content = Vec::new();
            event.write_content(&mut content);
            assert_eq!(String::from_utf8(content).unwrap(), content_of(&values));
            let members = Members::read(value).expect("a valid event is an object");
            let event = Event::of_members(&members).expect("the verifier reads every valid event");
            let read: Vec<String> = event.values.iter().map(ToString::to_string).collect();
            assert_eq!(read, values);
        }
    });
}

/// Returns the canonical content of an event, as `docs/lake.md` specifies it.
fn content_of(values: &[String]) -> String {
    let lines = fields().iter().zip(values).filter_map(|(field, value)| match &field.default {
        None => Some(value.clone()),
        Some(default) => (default.to_string() != *value).then(|| format!("{}={value}", field.name)),
    });
    lines.collect::<Vec<_>>().join("\n")
}
