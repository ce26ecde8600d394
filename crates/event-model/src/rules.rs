//! Which values are valid events. Both programs ask here and nowhere else.

use std::time::Duration;

use validator::{ValidationError, ValidationErrors, ValidationErrorsKind};

use crate::event::ProductEvent;
use crate::field::Field;
use crate::field_list::FieldList;
use crate::{Reason, Rejection, Timestamp, Violation};

/// The largest value that can be an event, in bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// Range of times that an event may have, relative to its Kafka record.
///
/// The record's timestamp and not the clock is the reference: the same record then gets the same verdict whenever it is
/// read. The timestamp is the producer's claim, however, so [`present`](Self::present) bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Maximum time of an event before its record.
    pub past: Duration,
    /// Maximum time of an event after its record, or after the present if the record claims to come from the future.
    pub future: Duration,
    /// The present, by which a record without a timestamp is judged. `None` where no producer's claim has to be bounded:
    /// a record without a timestamp then has no window.
    pub present: Option<Timestamp>,
}

impl Default for Window {
    /// 400 days before and one day after the record, without a present.
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { past: 400 * DAY, future: DAY, present: None }
    }
}

impl Window {
    /// Returns the window as it is at a time.
    #[must_use]
    pub fn at(self, present: Timestamp) -> Self {
        Self { present: Some(present), ..self }
    }

    /// Returns true if the window around the record contains the event, bounds included.
    #[must_use]
    pub fn holds(self, event: Timestamp, record: Option<Timestamp>) -> bool {
        let (oldest, newest) = match (record, self.present) {
            (Some(record), Some(present)) => (record, record.min(present)),
            (Some(record), None) => (record, record),
            (None, Some(present)) => (present, present),
            (None, None) => return true,
        };
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earliest = oldest.micros().saturating_sub(micros(self.past));
        let latest = newest.micros().saturating_add(micros(self.future));
        (earliest..=latest).contains(&event.micros())
    }
}

/// Reads a Kafka record's value. A valid event whose texts have no escapes borrows them: nothing is allocated.
///
/// A record without a timestamp is judged by the window's present; see [`Window`].
pub fn parse(
    value: Option<&[u8]>,
    record_time: Option<Timestamp>,
    window: Window,
) -> Result<ProductEvent<'_>, Rejection> {
    parse_as(value, record_time, window)
}

#[inline]
pub(crate) fn parse_as<'a, E: FieldList<'a>>(
    value: Option<&'a [u8]>,
    record_time: Option<Timestamp>,
    window: Window,
) -> Result<E, Rejection> {
    let value = value.unwrap_or_default();
    if value.is_empty() {
        return Err(Rejection::of_value(Reason::EmptyValue));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Rejection::of_value(Reason::ValueTooLarge));
    }
    let text = str::from_utf8(value).map_err(|_| Rejection::of_value(Reason::NotUtf8))?;
    if let Ok(event) = serde_json::from_str::<E>(text) {
        check(&event, record_time, window)?;
        return Ok(event);
    }
    E::diagnose(text, record_time, window)
}

impl ProductEvent<'_> {
    /// Checks the rules that the fields' types do not carry already, for an event made in memory as for one that was read.
    pub fn check(&self, record_time: Option<Timestamp>, window: Window) -> Result<(), Rejection> {
        check(self, record_time, window)
    }
}

#[inline]
fn check<'a, E: FieldList<'a>>(event: &E, record_time: Option<Timestamp>, window: Window) -> Result<(), Rejection> {
    let outside = !window.holds(event.timestamp(), record_time);
    match event.validate() {
        Ok(()) if !outside => Ok(()),
        validated => {
            let mut violations = Vec::new();
            if outside {
                violations.push(Violation { reason: Reason::TimestampOutsideWindow, field: Some("event_timestamp") });
            }
            if let Err(errors) = validated {
                violations.extend(violations_of(&errors, E::FIELDS));
            }
            let rejection = Rejection::of_violations(violations);
            rejection.map_or(Ok(()), |rejection| Err(rejection.at(event.timestamp(), record_time)))
        }
    }
}

const NO_CONTROL_CHARACTERS: &str = "no_control_characters";

/// Rule of texts. The validator's own `non_control_character` allocates for each text unless the optimizer sees through it.
#[inline]
pub(crate) fn no_control_characters(text: &str) -> Result<(), ValidationError> {
    if text.chars().any(char::is_control) { Err(ValidationError::new(NO_CONTROL_CHARACTERS)) } else { Ok(()) }
}

/// Returns the rules that an event breaks, without the window, in the order of the fields.
pub(crate) fn violations<'a, E: FieldList<'a>>(event: &E) -> Vec<Violation> {
    event.validate().map_or_else(|errors| violations_of(&errors, E::FIELDS).collect(), |()| Vec::new())
}

/// Returns the validator's errors in our terms, in the order of the fields.
fn violations_of(errors: &ValidationErrors, fields: &'static [Field]) -> impl Iterator<Item = Violation> {
    fields.iter().map(|field| field.name).flat_map(|field| {
        let of_field = match errors.errors().get(field) {
            Some(ValidationErrorsKind::Field(of_field)) => of_field.as_slice(),
            _ => &[],
        };
        of_field.iter().map(move |error| {
            let empty = error.params.get("value").is_some_and(|value| value == "");
            let reason = match error.code.as_ref() {
                "length" if empty => Reason::TextEmpty,
                "length" => Reason::TextTooLong,
                NO_CONTROL_CHARACTERS => Reason::TextControlCharacters,
                _ => Reason::OutOfRange,
            };
            Violation { reason, field: Some(field) }
        })
    })
}
