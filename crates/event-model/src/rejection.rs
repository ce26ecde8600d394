//! Rejections of values, with the rules that a value violates.

use std::borrow::Cow;
use std::fmt;

use crate::field::Field;
use crate::reason::Reason;
use crate::timestamp::Timestamp;

/// Violation of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation {
    /// Rule that is violated.
    pub reason: Reason,
    /// Field that violates it. `None` if the rule applies to the value as a whole.
    pub field: Option<&'static str>,
}

/// Rejection of a value that is not a valid event, with all known violations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    first: Violation,
    all: Vec<Violation>,
    outside: Option<OutsideWindow>,
    /// Fields of the event, for the bounds that the message prints.
    fields: &'static [Field],
}

/// Timestamps of an event outside the window and of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutsideWindow {
    event: Timestamp,
    record: Option<Timestamp>,
}

impl Rejection {
    pub(crate) fn of_value(reason: Reason) -> Self {
        let first = Violation { reason, field: None };
        Self { first, all: vec![first], outside: None, fields: &[] }
    }

    /// Creates a rejection. Returns `None` without violations. Violations with the same reason keep their order, which
    /// is that of the fields.
    pub(crate) fn of_violations(mut all: Vec<Violation>, fields: &'static [Field]) -> Option<Self> {
        all.sort_by_key(|violation| violation.reason);
        all.first().copied().map(|first| Self { first, all, outside: None, fields })
    }

    /// Adds the timestamps of the event and its record, which the message prints if the event is outside the window.
    pub(crate) fn at(mut self, event: Timestamp, record: Option<Timestamp>) -> Self {
        if self.all.iter().any(|violation| violation.reason == Reason::TimestampOutsideWindow) {
            self.outside = Some(OutsideWindow { event, record });
        }
        self
    }

    /// Returns the first reason in the order of precedence.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.first.reason
    }

    /// Returns all violations, in the order of precedence and then of the fields. Never empty.
    ///
    /// Rules that cannot be checked because of another violation are not among them, such as those for the fields of a
    /// value that is not JSON.
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
                Some(field) => write!(f, "{separator}{field}: {}", meaning(*reason, field, self.fields))?,
                None => write!(f, "{separator}{}", reason.means())?,
            }
            if let Some(outside) = self.outside.filter(|_| *reason == Reason::TimestampOutsideWindow) {
                outside.fmt(f)?;
            }
        }
        Ok(())
    }
}

/// Returns the meaning of a reason, with the bounds of the field.
fn meaning(reason: Reason, field: &str, fields: &[Field]) -> Cow<'static, str> {
    let Some(field) = fields.iter().find(|one| one.name == field) else { return reason.means().into() };
    match reason {
        Reason::OutOfRange => format!("an integer is outside {} to {}", field.range().min, field.range().max).into(),
        Reason::TextTooLong => format!("a text is longer than {} characters", field.length().max).into(),
        _ => reason.means().into(),
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
