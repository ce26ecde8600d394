//! Hash of a set of events that does not depend on their order.
//!
//! The hash of a set is the sum of the hashes of its events modulo 2^128. Unlike XOR, a sum detects duplicates.
//! `docs/lake.md` describes the format and has queries that compute the hash in SQL and Python.
//!
//! The hash of an event is the first 16 bytes of a SHA-256, read as a big-endian number. The input consists of these
//! texts, joined by line feeds:
//!
//! - a valid event: `event_id` in lower case, `event_timestamp` in microseconds since 1970, `event_type`, `user_id`,
//!   `account_id`, `product_id`, `category`, `experiment_id`; then `name=value` for each field with a default whose
//!   value differs from it, in the order of the columns. A new field thus preserves the hashes of older events. No
//!   field can contain a line feed;
//! - a rejected value: its index, its due time in microseconds since 1970, the text as stored in the quarantine;
//! - a deliberately corrupt value: its index, the key and the value of its record.

use std::fmt;
use std::str::FromStr;

use event_model::{ProductEvent, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Sum of hashes modulo 2^128. `Display`, `FromStr` and JSON use 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetHash(u128);

impl SetHash {
    /// Adds the hashes of another set.
    pub fn add(&mut self, others: Self) {
        self.0 = self.0.wrapping_add(others.0);
    }

    /// Subtracts the hashes of a set that was added before.
    pub fn subtract(&mut self, others: Self) {
        self.0 = self.0.wrapping_sub(others.0);
    }

    /// Adds a valid event. `scratch` is a reusable buffer.
    pub fn add_event(&mut self, event: &ProductEvent<'_>, scratch: &mut Vec<u8>) {
        scratch.clear();
        event.write_content(scratch);
        self.add_hash_of(scratch);
    }

    /// Adds a rejected value. Invalid UTF-8 is replaced with U+FFFD as in the quarantine before it is hashed.
    pub fn add_rejected(&mut self, index: u64, due: Timestamp, value: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        line(scratch, itoa::Buffer::new().format(due.micros()).as_bytes());
        line(scratch, String::from_utf8_lossy(value).as_bytes());
        self.add_hash_of(scratch);
    }

    /// Adds a deliberately corrupt record.
    pub fn add_corrupt(&mut self, index: u64, key: i32, value: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        line(scratch, itoa::Buffer::new().format(key).as_bytes());
        line(scratch, value);
        self.add_hash_of(scratch);
    }

    fn add_hash_of(&mut self, content: &[u8]) {
        let digest: [u8; 32] = Sha256::digest(content).into();
        let (head, _) = digest.as_chunks::<16>();
        self.add(Self(u128::from_be_bytes(head[0])));
    }
}

fn line(scratch: &mut Vec<u8>, text: &[u8]) {
    scratch.push(b'\n');
    scratch.extend_from_slice(text);
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Error for a text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sum of hashes; use 32 hexadecimal digits")]
pub struct BadSetHash;

impl FromStr for SetHash {
    type Err = BadSetHash;

    fn from_str(text: &str) -> Result<Self, BadSetHash> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(BadSetHash)
    }
}

impl Serialize for SetHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SetHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::borrow::Cow;

    use event_model::{EventType, RequiredFields};

    use super::*;

    fn event() -> ProductEvent<'static> {
        ProductEvent::new(RequiredFields {
            event_id: "019aa9f0-0000-7abc-8def-0140000f4240".parse().unwrap(),
            event_timestamp: "2026-11-22T10:00:00.000001Z".parse().unwrap(),
            event_type: EventType::RfqSent,
            user_id: 1,
            account_id: 2,
            product_id: 3,
            category: Cow::Borrowed("tools"),
            experiment_id: Cow::Borrowed("exp_ä"),
        })
    }

    /// The expected hashes were computed with Python's hashlib from the description in the module documentation.
    #[test]
    fn the_form_is_the_documented_one() {
        let mut scratch = Vec::new();
        let mut sum = SetHash::default();
        sum.add_event(&event(), &mut scratch);
        assert_eq!(sum.to_string(), "c95dc5c44e2fdaf136f1e09d42741f9b");
        let mut sum = SetHash::default();
        sum.add_rejected(7, event().event_timestamp, b"a\nb\xff", &mut scratch);
        assert_eq!(sum.to_string(), "93072318ae8070916678e0661bf88013");
        let mut sum = SetHash::default();
        sum.add_corrupt(7, 1, b"{\xff", &mut scratch);
        assert_eq!(sum.to_string(), "f6efa126d332298cec7c742d4b577811");
    }

    #[test]
    fn sums_show_what_is_doubled_and_not_its_order() {
        let mut scratch = Vec::new();
        let other = ProductEvent { user_id: 2, ..event() };
        let mut sum = |events: &[&ProductEvent<'_>]| {
            let mut sum = SetHash::default();
            for event in events {
                sum.add_event(event, &mut scratch);
            }
            sum
        };
        let event = event();
        assert_eq!(sum(&[&event, &other]), sum(&[&other, &event]));
        assert_ne!(sum(&[&event, &other, &other]), sum(&[&event]));
        assert_ne!(sum(&[&other]), sum(&[&event]));
    }

    #[test]
    fn text_form_reads_back() {
        let mut sum = SetHash::default();
        sum.add_event(&event(), &mut Vec::new());
        assert_eq!(sum.to_string().parse(), Ok(sum));
        for text in ["", "1", &"g".repeat(32), &"+".repeat(32), &"1".repeat(33)] {
            assert_eq!(text.parse::<SetHash>(), Err(BadSetHash), "{text}");
        }
    }
}
