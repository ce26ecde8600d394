//! Record values that are not events.

use event_model::ProductEvent;

use crate::keyed_rng::{KeyedRng, scale};

/// Bytes that no reader can parse as an event. The number in a variant selects the position, the length or the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The event's JSON, truncated to at least one byte.
    Truncated(u64),
    /// Random bytes, 1 to 256 of them. The first is never valid in UTF-8.
    Noise(u64),
    /// The event's JSON with one byte replaced by a byte that is never valid in UTF-8.
    NotUtf8(u64),
    /// JSON that is not an object: an array, a string, a number or null.
    NotAnObject(u64),
    /// Two JSON objects in one value.
    TwoInOne,
}

impl Corruption {
    pub(crate) fn choose(numbers: &mut KeyedRng) -> Self {
        let kind = numbers.below(5);
        let number = numbers.next();
        match kind {
            0 => Self::Truncated(number),
            1 => Self::Noise(number),
            2 => Self::NotUtf8(number),
            3 => Self::NotAnObject(number),
            _ => Self::TwoInOne,
        }
    }

    /// Appends the bytes of the record value. They do not depend on fields that have their default values.
    pub(crate) fn write(self, event: &ProductEvent<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let within = |number, len: usize| usize::try_from(scale(number, len as u64)).unwrap_or(0);
        match self {
            Self::Truncated(number) => {
                event.write_compact_json(out);
                let len = out.len() - start;
                out.truncate(start + 1 + within(number, len - 1));
            }
            Self::Noise(number) => {
                out.push(NEVER_IN_UTF8);
                let mut numbers = KeyedRng::new(number, 0);
                out.extend((0..within(number, 256)).map(|_| numbers.next().to_le_bytes()[0]));
            }
            Self::NotUtf8(number) => {
                event.write_compact_json(out);
                let len = out.len() - start;
                out[start + within(number, len)] = NEVER_IN_UTF8;
            }
            Self::NotAnObject(number) => match within(number, 4) {
                0 => {
                    out.push(b'[');
                    event.write_compact_json(out);
                    out.push(b']');
                }
                1 => out.extend_from_slice(format!("\"{}\"", event.event_id).as_bytes()),
                2 => out.extend_from_slice(event.user_id.to_string().as_bytes()),
                _ => out.extend_from_slice(b"null"),
            },
            Self::TwoInOne => {
                event.write_compact_json(out);
                event.write_compact_json(out);
            }
        }
    }
}

const NEVER_IN_UTF8: u8 = 0xff;
