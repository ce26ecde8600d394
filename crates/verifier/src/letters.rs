//! The dead letters of one consumer group, matched with their records.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use rdkafka_ext::Header;
use xxhash_rust::xxh3::xxh3_64;

use crate::trace::RecordIndex;

/// Key, value and headers of a record, read from Kafka or from a dead letter.
pub(crate) struct Bytes<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
}

impl<'a> Bytes<'a> {
    /// Returns the headers of a record with their names in the form that a dead letter stores.
    pub(crate) fn headers_of(headers: &[Header<'a>]) -> Vec<(Cow<'a, str>, Option<&'a [u8]>)> {
        headers.iter().map(|header| (stored_name(header.name), header.value)).collect()
    }

    /// Returns the value of the last header with this name, as Kafka's `Headers.lastHeader` does. Returns `None` if it
    /// is not UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let value = self.headers.iter().rev().find(|(key, _)| *key == name)?.1?;
        std::str::from_utf8(value).ok()
    }

    fn value_digest(&self) -> u64 {
        self.value.map_or(0, xxh3_64)
    }

    fn envelope_digest(&self) -> u64 {
        let mut all = Vec::new();
        let mut add = |part: Option<&[u8]>| {
            all.extend_from_slice(&part.map_or(usize::MAX, <[u8]>::len).to_be_bytes());
            all.extend_from_slice(part.unwrap_or_default());
        };
        add(self.key);
        for (name, value) in &self.headers {
            add(Some(name.as_bytes()));
            add(*value);
        }
        xxh3_64(&all)
    }
}

/// Returns a header's name as specified in `docs/dead-letters.md`: UTF-8 unchanged, otherwise with each invalid byte
/// escaped as `\xNN` and each backslash doubled.
fn stored_name(name: &[u8]) -> Cow<'_, str> {
    if let Ok(name) = std::str::from_utf8(name) {
        return Cow::Borrowed(name);
    }
    let mut stored = String::new();
    for part in name.utf8_chunks() {
        for one in part.valid().chars() {
            stored.push(one);
            if one == '\\' {
                stored.push(one);
            }
        }
        for byte in part.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(stored, "\\x{byte:02x}");
        }
    }
    Cow::Owned(stored)
}

/// Digests and state of a dead letter.
pub(crate) struct Letter {
    /// Digest of the payload. `None` if the dead letter was discarded, which deletes the payload and keeps the row.
    value: Option<u64>,
    envelope: u64,
    replayed: bool,
    pub(crate) reason: String,
    copies: u32,
    met: bool,
}

/// State of a record's dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The record has no dead letter.
    None,
    /// The dead letter was not replayed.
    Open,
    /// The dead letter was replayed.
    Replayed,
}

/// Dead letters of one group and topic, by the position of their records.
#[derive(Default)]
pub(crate) struct Letters {
    at: HashMap<RecordIndex, Letter>,
}

impl Letters {
    pub(crate) fn add(&mut self, place: RecordIndex, bytes: &Bytes, discarded: bool, replayed: bool, reason: String) {
        let value = (!discarded).then(|| bytes.value_digest());
        let letter = Letter { value, envelope: bytes.envelope_digest(), replayed, reason, copies: 0, met: false };
        self.at.entry(place).or_insert(letter).copies += 1;
    }

    /// Returns the number of records with a dead letter.
    pub(crate) fn count(&self) -> u64 {
        self.at.len() as u64
    }

    /// Marks the dead letter of a record as matched. Returns its state, and true unless its bytes differ from the
    /// record's. The payload of a discarded dead letter is not compared.
    pub(crate) fn meet(&mut self, place: RecordIndex, record: &Bytes) -> (Met, bool) {
        let Some(letter) = self.at.get_mut(&place) else {
            return (Met::None, true);
        };
        letter.met = true;
        let same =
            letter.envelope == record.envelope_digest() && letter.value.is_none_or(|v| v == record.value_digest());
        (if letter.replayed { Met::Replayed } else { Met::Open }, same)
    }

    /// Returns the dead letters without a matching record.
    pub(crate) fn unmet(&self) -> impl Iterator<Item = (RecordIndex, &Letter)> {
        self.at.iter().filter(|(_, letter)| !letter.met).map(|(place, letter)| (*place, letter))
    }

    /// Returns the positions of records with more than one dead letter, with the number of dead letters.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = (RecordIndex, u32)> {
        self.at.iter().filter(|(_, letter)| letter.copies > 1).map(|(place, letter)| (*place, letter.copies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf8_are_expected_escaped() {
        let cases: [(&[u8], &str); 4] =
            [(b"run", "run"), (br"a\b", r"a\b"), (b"\xff\xfe", r"\xff\xfe"), (b"a\\\xc3", r"a\\\xc3")];
        for (name, expected) in cases {
            assert_eq!(stored_name(name), expected, "{name:?}");
        }
    }
}
