//! Bytes that are no event.

use event_model::ProductEvent;

use crate::keyed_rng::{KeyedRng, scale};

/// How bytes are made that no reader of events can take for one. The numbers choose the place, the
/// length or the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The event's JSON, cut off.
    Truncated(u64),
    /// Bytes of no meaning, 1 to 256 of them.
    Noise(u64),
    /// The event's JSON with a byte in it that UTF-8 doesn't have.
    NotUtf8(u64),
    /// JSON, but an array, a text, a number or null.
    NotAnObject(u64),
    /// Two events in one value.
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

    /// Appends the bytes that stand in the event's place. They do not depend on fields that are at their defaults.
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
