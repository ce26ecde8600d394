//! An event as read from any store, and its origin. The parser is independent of the programs' own.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::field::{Field, Scalar, fields};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// An event read from any store.
pub(crate) struct Event<'a> {
    /// The UUID as one number, most significant byte first.
    pub(crate) id: u128,
    /// Microseconds since 1970, UTC.
    pub(crate) micros: i64,
    pub(crate) kind: &'a str,
    pub(crate) user: i32,
    /// Values of all [`fields`], in their order.
    pub(crate) values: Vec<Scalar<'a>>,
}

/// Members of a JSON object with the names of [`fields`], in their order.
pub(crate) struct Members(Vec<Option<Value>>);

impl Members {
    /// Parses a record's value. Returns `None` if it is not an object.
    ///
    /// The other members stay raw. A [`Value`] cannot represent all of them, such as 1e999 and deeply nested arrays.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut object: HashMap<String, &RawValue> = serde_json::from_slice(value).ok()?;
        let value = |field: &Field| match object.remove(field.name) {
            Some(raw) => serde_json::from_str(raw.get()).map(Some),
            None => Ok(None),
        };
        fields().iter().map(value).collect::<Result<_, _>>().ok().map(Self)
    }
}

impl<'a> Event<'a> {
    /// Creates the event of a record. Returns `None` if a required field is absent or a field has another type; such a
    /// record must have a dead letter. The converse does not hold: the rules of the pipeline are stricter than this
    /// parser, which only has to distinguish contents.
    pub(crate) fn of_members(members: &'a Members) -> Option<Self> {
        let value = |(field, value): (&Field, &'a Option<Value>)| match value {
            Some(value) => field.kind.of_json(value),
            None => field.default,
        };
        Self::of_values(fields().iter().zip(&members.0).map(value).collect::<Option<_>>()?)
    }

    /// Creates an event from the values of all [`fields`]. Returns `None` if its ID, timestamp, type or user ID is
    /// absent or has another type.
    pub(crate) fn of_values(values: Vec<Scalar<'a>>) -> Option<Self> {
        let value = |name| Some(values[fields().iter().position(|field| field.name == name)?]);
        match [value("event_id")?, value("event_timestamp")?, value("event_type")?, value("user_id")?] {
            [Scalar::Uuid(id), Scalar::Time(micros), Scalar::Text(kind), Scalar::Integer(user)] => {
                Some(Self { id, micros, kind, user, values })
            }
            _ => None,
        }
    }

    /// Returns a hash of all fields. Only contents of the same ID are compared, so 64 bits suffice. `scratch` is a
    /// reusable buffer.
    pub(crate) fn content(&self, scratch: &mut Vec<u8>) -> u64 {
        scratch.clear();
        for value in &self.values {
            value.write(scratch);
        }
        xxh3_64(scratch)
    }

    /// Returns the whole hours since 1970, UTC.
    pub(crate) fn hour(&self) -> i64 {
        hour_of(self.micros)
    }

    /// Returns the whole days since 1970, UTC.
    pub(crate) fn day(&self) -> i64 {
        self.hour().div_euclid(HOURS_PER_DAY)
    }
}

/// Converts microseconds since 1970 to whole hours, rounded down.
pub(crate) fn hour_of(micros: i64) -> i64 {
    micros.div_euclid(MICROS_PER_HOUR)
}

/// Parses an hour such as `2026-11-22T10` to hours since 1970.
pub(crate) fn parse_hour(text: &str) -> Option<i64> {
    let start: jiff::Timestamp = format!("{text}:00:00Z").parse().ok()?;
    Some(hour_of(start.as_microsecond()))
}

/// Formats hours since 1970 as `2026-11-22T10`.
pub(crate) fn show_hour(hour: i64) -> String {
    jiff::Timestamp::from_second(hour.saturating_mul(3600))
        .map_or_else(|_| format!("hour {hour}"), |start| start.strftime("%Y-%m-%dT%H").to_string())
}

/// Run tag and index in the `UUIDv7` of an event.
///
/// After 48 bits of milliseconds and the version come the upper 12 bits of the tag, the variant, the lower 24 bits of
/// the tag and 38 bits of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) tag: u64,
    pub(crate) index: u64,
}

const INDEX_BITS: u32 = 38;
const TAG_LOW_BITS: u32 = 24;

impl Origin {
    /// Decodes an ID. Returns `None` if it is not a `UUIDv7`. The `UUIDv7` of a foreign producer decodes to a tag that
    /// belongs to no run.
    pub(crate) fn of(id: u128) -> Option<Self> {
        let bits = |shift: u32, width: u32| -> u64 {
            let mask = (1_u128 << width) - 1;
            u64::try_from((id >> shift) & mask).unwrap_or(u64::MAX)
        };
        let version_7 = bits(76, 4) == 7;
        let rfc_variant = bits(62, 2) == 0b10;
        (version_7 && rfc_variant).then(|| Self {
            tag: (bits(64, 12) << TAG_LOW_BITS) | bits(INDEX_BITS, TAG_LOW_BITS),
            index: bits(0, INDEX_BITS),
        })
    }

    /// Encodes the ID with these milliseconds since 1970.
    pub(crate) fn id(self, millis: u64) -> Uuid {
        let tag_low = self.tag & ((1 << TAG_LOW_BITS) - 1);
        let low = (0b10 << 62) | (tag_low << INDEX_BITS) | self.index;
        let high = (millis << 16) | (7 << 12) | (self.tag >> TAG_LOW_BITS);
        Uuid::from_u64_pair(high, low)
    }
}

/// Returns the milliseconds in the first 48 bits of a `UUIDv7`.
pub(crate) fn millis_of(id: u128) -> u64 {
    u64::try_from(id >> 80).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_an_id_is_read_from_its_bits() {
        let id: Uuid = "019aa9f0-0000-7abc-8def-0140000f4240".parse().unwrap_or_default();
        let origin = Origin::of(id.as_u128());
        // rand_a is 0xabc, rand_b is 0x0def_0140_000f_4240: the upper 24 of its 62 bits are 0x37bc05, the lower 38 are
        // 1,000,000.
        assert_eq!(origin, Some(Origin { tag: 0xabc_37b_c05, index: 1_000_000 }));
        assert_eq!(origin.map(|o| o.id(millis_of(id.as_u128()))), Some(id));
    }

    #[test]
    fn ids_of_other_versions_have_no_origin() {
        assert_eq!(Origin::of(Uuid::from_u128(0x019a_a9f0_0000_4abc_8def_0140_000f_4240).as_u128()), None);
        assert_eq!(Origin::of(Uuid::from_u128(0x019a_a9f0_0000_7abc_cdef_0140_000f_4240).as_u128()), None);
    }

    #[test]
    fn content_is_independent_of_spelling_and_sensitive_to_every_field() {
        let content = |text: &str| {
            let members = Members::read(text.as_bytes())?;
            Event::of_members(&members).map(|e| e.content(&mut Vec::new()))
        };
        let plain = r#"{"event_id":"019aa9f0-0000-7abc-8def-0140000f4240","event_timestamp":"2026-11-22T10:00:00.000001Z","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}"#;
        let spelt = plain
            .replace("019aa9f0", "019AA9F0")
            .replace("10:00:00.000001Z", "12:00:00.000001999+02:00")
            .replace("tools", "\\u0074ools");
        assert!(content(plain).is_some());
        assert_eq!(content(plain), content(&spelt));
        for (from, to) in [
            ("4240", "4241"),
            ("00001Z", "00002Z"),
            ("rfq_sent", "rfq_sens"),
            ("\":1", "\":4"),
            ("\":2", "\":4"),
            ("\":3", "\":4"),
            ("tools", "tool"),
            ("exp_1", "exp_2"),
        ] {
            assert!(plain.contains(from));
            assert_ne!(content(plain), content(&plain.replacen(from, to, 1)), "{from} -> {to}");
        }
        let more =
            plain.replace('{', &format!("{{\"more\":[1e999,\"\\ud800\",{}{}],", "[".repeat(500), "]".repeat(500)));
        assert_eq!(content(&more), content(plain), "other members may have any value");
        assert_eq!(content(&plain.replace("\":1", "\":1.0")), None);
        assert_eq!(content(&plain.replace("\":1", "\":3000000000")), None);
    }

    #[test]
    fn hours_are_whole_and_in_utc() {
        assert_eq!(parse_hour("1970-01-02T03"), Some(27));
        assert_eq!(show_hour(27), "1970-01-02T03");
        assert_eq!(hour_of(-1), -1);
        assert_eq!(parse_hour("2026-11-22"), None);
    }
}
