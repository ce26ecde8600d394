//! Event IDs and the run tag in them.

use std::fmt;
use std::str::FromStr;

use event_model::Timestamp;
use thiserror::Error;
use uuid::{Uuid, Variant};

/// Number of bits in a run tag.
const TAG_BITS: u32 = 36;
/// Number of tag bits in `rand_a`; the others are in `rand_b`.
const TAG_HIGH_BITS: u32 = 12;
const TAG_LOW_BITS: u32 = TAG_BITS - TAG_HIGH_BITS;
const INDEX_BITS: u32 = 38;

/// Maximum index of an event, 2^38 - 1: 75 years at ten million events a day.
pub const MAX_INDEX: u64 = (1 << INDEX_BITS) - 1;

/// 36-bit hash of a run's settings. Written as nine hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunTag(u64);

impl RunTag {
    /// Returns the tag that consists of the upper 36 bits of a hash.
    pub(crate) const fn from_hash(hash: u64) -> Self {
        Self(hash >> (u64::BITS - TAG_BITS))
    }

    /// Returns the tag as a number below 2^36.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// Error returned when a run tag is not nine hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is not a run tag; use nine hexadecimal digits, such as 0a1b2c3d4")]
pub struct ParseRunTagError(String);

impl FromStr for RunTag {
    type Err = ParseRunTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits.then(|| u64::from_str_radix(text, 16)))
            .and_then(Result::ok)
            .map(Self)
            .ok_or_else(|| ParseRunTagError(text.to_owned()))
    }
}

impl fmt::Display for RunTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:09x}", self.0)
    }
}

/// Returns the ID of event `index` of a run: a `UUIDv7` (RFC 9562, section 5.7). Its time is the event's in
/// milliseconds; its 74 random bits are the run tag and the index.
///
/// Bits of `index` above [`MAX_INDEX`] and times before 1970 or after 10889 do not fit and are truncated.
#[must_use]
pub fn event_id(at: Timestamp, tag: RunTag, index: u64) -> Uuid {
    let millis = at.micros().div_euclid(1_000).cast_unsigned() & ((1 << 48) - 1);
    let high = (millis << 16) | (0x7 << 12) | (tag.0 >> TAG_LOW_BITS);
    let tag_low = tag.0 & ((1 << TAG_LOW_BITS) - 1);
    let low = (0b10 << 62) | (tag_low << INDEX_BITS) | (index & MAX_INDEX);
    Uuid::from_u64_pair(high, low)
}

/// Returns the run tag and the index in an event ID, or `None` if it is not a `UUIDv7`.
///
/// A `UUIDv7` of another producer yields a tag and an index too. Compare the tag with the run's before you use the
/// index.
#[must_use]
pub fn decode_event_id(id: Uuid) -> Option<(RunTag, u64)> {
    if id.get_version_num() != 7 || id.get_variant() != Variant::RFC4122 {
        return None;
    }
    let (high, low) = id.as_u64_pair();
    let tag_high = high & ((1 << TAG_HIGH_BITS) - 1);
    let tag_low = (low >> INDEX_BITS) & ((1 << TAG_LOW_BITS) - 1);
    Some((RunTag((tag_high << TAG_LOW_BITS) | tag_low), low & MAX_INDEX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_fixed() {
        let at = Timestamp::from_micros(1_795_255_200_123_456);
        let id = event_id(at, RunTag(0x0_a1b2_c3d4), 5);
        assert_eq!(id.to_string(), "01a1fd8c-697b-70a1-acb0-f50000000005");
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn other_uuids_are_not_decoded() {
        assert_eq!(decode_event_id(Uuid::nil()), None);
        assert_eq!(decode_event_id(Uuid::from_u128(0x6d5f_84b5_0d34_4f2c_9d3e_0e5b_6f1c_2a77)), None);
    }

    proptest! {
        #[test]
        fn an_id_decodes_to_its_run_and_index(
            micros in 0..4_102_444_800_000_000_i64,
            tag in 0..1_u64 << TAG_BITS,
            index in 0..=MAX_INDEX,
        ) {
            let id = event_id(Timestamp::from_micros(micros), RunTag(tag), index);
            prop_assert_eq!(decode_event_id(id), Some((RunTag(tag), index)));
            let seconds = id.get_timestamp().unwrap().to_unix();
            prop_assert_eq!(seconds.0, u64::try_from(micros).unwrap() / 1_000_000);
        }

        #[test]
        fn tag_text_round_trip(tag in 0..1_u64 << TAG_BITS) {
            prop_assert_eq!(RunTag(tag).to_string().parse::<RunTag>().unwrap(), RunTag(tag));
        }
    }
}
