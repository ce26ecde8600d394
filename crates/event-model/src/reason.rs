//! Reasons for the rejection of an event.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $means:literal;)*) => {
        /// Reason for the rejection of a value. Dead letters and the quarantine store its [`code`](Self::code).
        ///
        /// The order is the precedence: of several reasons, the first is the reason code of the dead letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* #[doc = concat!("`", $code, "`: ", $means, ".")] $name,)*
        }

        impl Reason {
            /// All reasons, in the order of precedence.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the stored code, in snake case. Codes are stable.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the meaning, phrased as the end of a sentence.
            #[must_use]
            pub const fn means(self) -> &'static str {
                match self { $(Self::$name => $means,)* }
            }
        }
    };
}

reasons! {
    EmptyValue = "empty_value", "the record has no value (a tombstone) or an empty one";
    ValueTooLarge = "value_too_large", "the value is larger than 65,536 bytes";
    NotUtf8 = "not_utf8", "the value is not UTF-8";
    NotJson = "not_json", "the value is not JSON (RFC 8259)";
    NotAnObject = "not_an_object", "the JSON value is not an object";
    DuplicateKey = "duplicate_key", "a field of the event occurs twice";
    MissingField = "missing_field", "a required field is missing";
    NullField = "null_field", "a required field is null";
    WrongType = "wrong_type", "a field has the wrong JSON type (1.0 and 1e2 are not integers)";
    OutOfRange = "out_of_range", "an integer is outside 1 to 2147483647";
    BadUuid = "bad_uuid", "the text is not a UUID of 36 characters";
    BadTimestamp = "bad_timestamp", "the text is not an RFC 3339 timestamp in the years 1 to 9999 (leap seconds are rejected)";
    TimestampOutsideWindow = "timestamp_outside_window", "the event is too far before or after the timestamp of its record";
    UnknownEventType = "unknown_event_type", "the text is not an event type";
    TextEmpty = "text_empty", "a text is empty";
    TextTooLong = "text_too_long", "a text is longer than 64 characters";
    TextControlCharacters = "text_control_characters", "a text contains control characters";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// Error returned for a text that is not a reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown reason code")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|one| one.code() == code).ok_or(UnknownReason)
    }
}
