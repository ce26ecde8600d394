//! The canonical content of an event and its hash, implemented from `docs/lake.md` alone.

use sha2::{Digest, Sha256};

use crate::event::Event;
use crate::field::fields;

/// Returns the hash of a valid event. A field at its default is left out.
pub(crate) fn of_event(event: &Event) -> u128 {
    let mut lines = Vec::with_capacity(event.values.len());
    for (field, value) in fields().iter().zip(&event.values) {
        match &field.default {
            None => lines.push(value.to_string()),
            Some(default) if default == value => {}
            Some(_) => lines.push(format!("{}={value}", field.name)),
        }
    }
    hash(lines.join("\n").as_bytes())
}

/// Returns the hash of a rejected value, as stored in the quarantine.
pub(crate) fn of_refused(index: u64, due_micros: i64, text: &str) -> u128 {
    hash(format!("{index}\n{due_micros}\n{text}").as_bytes())
}

/// Returns the hash of a corrupt record.
pub(crate) fn of_broken(index: u64, key: &[u8], value: &[u8]) -> u128 {
    hash(&[index.to_string().as_bytes(), key, value].join(&b'\n'))
}

fn hash(content: &[u8]) -> u128 {
    let digest = Sha256::digest(content);
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}
