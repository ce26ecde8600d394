//! The dead letters of one consumer group, met with the records that they stand for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use rdkafka_ext::Header;
use xxhash_rust::xxh3::xxh3_64;

use crate::trace::RecordIndex;

/// One record's bytes: of a record in Kafka, or as a dead letter keeps them.
pub(crate) struct Bytes<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
}

impl<'a> Bytes<'a> {
    /// Returns the headers of a record with their names as a dead letter must have them.
    pub(crate) fn headers_of(headers: &[Header<'a>]) -> Vec<(Cow<'a, str>, Option<&'a [u8]>)> {
        headers.iter().map(|header| (stored_name(header.name), header.value)).collect()
    }

    /// The text of the last header of that name, as Kafka's own readers take it.
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

/// Returns a header's name as docs/dead-letters.md states it: UTF-8 as it is; otherwise with `\xNN` for each byte that
/// belongs to no character, and with each backslash twice.
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
            // Writing to a string does not fail.
            let _ = write!(stored, "\\x{byte:02x}");
        }
    }
    Cow::Owned(stored)
}

/// What is remembered of a dead letter.
pub(crate) struct Letter {
    /// `None` once it was discarded: the payload goes, the row stays.
    value: Option<u64>,
    envelope: u64,
    replayed: bool,
    pub(crate) reason: String,
    copies: u32,
    met: bool,
}

/// What a record's dead letter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// There is none.
    None,
    /// There is one, and it was not replayed.
    Open,
    /// There is one, and it was replayed.
    Replayed,
}

/// Dead letters of one group and topic by place.
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

    /// Records that have a letter.
    pub(crate) fn count(&self) -> u64 {
        self.at.len() as u64
    }

    /// The letter of a record, and whether it keeps the record's bytes.
    pub(crate) fn meet(&mut self, place: RecordIndex, record: &Bytes) -> (Met, bool) {
        let Some(letter) = self.at.get_mut(&place) else {
            return (Met::None, true);
        };
        letter.met = true;
        let same =
            letter.envelope == record.envelope_digest() && letter.value.is_none_or(|v| v == record.value_digest());
        (if letter.replayed { Met::Replayed } else { Met::Open }, same)
    }

    /// Letters whose record was not met.
    pub(crate) fn unmet(&self) -> impl Iterator<Item = (RecordIndex, &Letter)> {
        self.at.iter().filter(|(_, letter)| !letter.met).map(|(place, letter)| (*place, letter))
    }

    /// Records with more than one letter.
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
