//! Why an event is refused.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Timestamp;
use crate::event::FIELDS;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $means:literal;)*) => {
        /// Why a value is no valid event. Dead letters and the quarantine carry its [`code`](Self::code).
        ///
        /// The order is the precedence: of several reasons the first one names the dead letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* #[doc = concat!("`", $code, "`: ", $means, ".")] $name,)*
        }

        impl Reason {
            /// All of them, in the order of precedence.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code that is stored: stable, lower case with underscores.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What it means, as the end of a sentence.
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
    DuplicateKey = "duplicate_key", "the object has a field of the event twice";
    MissingField = "missing_field", "a required field is missing";
    NullField = "null_field", "a required field is null";
    WrongType = "wrong_type", "a field has another JSON type (1.0 and 1e2 are no integers)";
    OutOfRange = "out_of_range", "an integer is not in 1 to 2147483647";
    BadUuid = "bad_uuid", "the text is not a UUID of 36 characters";
    BadTimestamp = "bad_timestamp", "the text is not an RFC 3339 timestamp in the years 1 to 9999 (and no leap second)";
    TimestampOutsideWindow = "timestamp_outside_window", "the event lies too far before or after the record's own timestamp";
    UnknownEventType = "unknown_event_type", "the text names no event type";
    TextEmpty = "text_empty", "a text is empty";
    TextTooLong = "text_too_long", "a text has more than 64 characters";
    TextControlCharacters = "text_control_characters", "a text has control characters";
}

impl Reason {
    /// Returns what it means for a field, whose bounds may be its own.
    fn means_of(self, field: &str) -> Cow<'static, str> {
        let Some(field) = FIELDS.iter().find(|one| one.name == field) else { return self.means().into() };
        match self {
            Self::OutOfRange => format!("an integer is not in {} to {}", field.range().min, field.range().max).into(),
            Self::TextTooLong => format!("a text has more than {} characters", field.length().max).into(),
            _ => self.means().into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// A text that is no reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a reason code")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|one| one.code() == code).ok_or(UnknownReason)
    }
}

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// The rule.
    pub reason: Reason,
    /// The field that breaks it; none where the rule is about the value as a whole.
    pub field: Option<&'static str>,
}

/// A value that is no valid event, with every rule that it is known to break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    first: Violation,
    all: Vec<Violation>,
    outside: Option<OutsideWindow>,
}

/// The two times of an event outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutsideWindow {
    event: Timestamp,
    record: Option<Timestamp>,
}

impl Rejection {
    pub(crate) fn of_value(reason: Reason) -> Self {
        let first = Violation { reason, field: None };
        Self { first, all: vec![first], outside: None }
    }

    /// None of no violations. Those of one reason keep the order in which they are given, which is the fields'.
    pub(crate) fn of_violations(mut all: Vec<Violation>) -> Option<Self> {
        all.sort_by_key(|violation| violation.reason);
        all.first().copied().map(|first| Self { first, all, outside: None })
    }

    /// Adds the times that the message prints if the event is outside the window.
    pub(crate) fn at(mut self, event: Timestamp, record: Option<Timestamp>) -> Self {
        if self.all.iter().any(|violation| violation.reason == Reason::TimestampOutsideWindow) {
            self.outside = Some(OutsideWindow { event, record });
        }
        self
    }

    /// The reason that comes first in the order of precedence.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.first.reason
    }

    /// All violations that were found, in the order of precedence and then of the fields. Never empty. What cannot
    /// be judged because an earlier rule is broken (the fields of what is not JSON) is not among them.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.all
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Violation { reason, field }) in self.all.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            match field {
                Some(field) => write!(f, "{separator}{field}: {}", reason.means_of(field))?,
                None => write!(f, "{separator}{}", reason.means())?,
            }
            if let Some(outside) = self.outside.filter(|_| *reason == Reason::TimestampOutsideWindow) {
                outside.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for OutsideWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Some(record) => write!(f, " (event {}, record {record})", self.event),
            None => write!(f, " (event {}, record without a timestamp)", self.event),
        }
    }
}

impl std::error::Error for Rejection {}
