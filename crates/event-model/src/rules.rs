//! Which values are valid events. Both programs ask here and nowhere else.

use std::time::Duration;

use validator::{Validate, ValidationErrors, ValidationErrorsKind};

use crate::event::{FIELD_NAMES, ProductEvent};
use crate::{Reason, Rejection, Timestamp, Violation};

/// The largest value that can be an event, in bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// How far an event's own time may lie from the time of its Kafka record. Judging by the record's time and not by
/// the clock gives the same record the same verdict whenever it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long before the record.
    pub past: Duration,
    /// How long after the record.
    pub future: Duration,
}

impl Default for Window {
    /// 400 days before and one day after.
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { past: 400 * DAY, future: DAY }
    }
}

impl Window {
    /// Whether an event of this time may stand in a record of that time, the ends included.
    #[must_use]
    pub fn holds(self, event: Timestamp, record: Timestamp) -> bool {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earliest = record.micros().saturating_sub(micros(self.past));
        let latest = record.micros().saturating_add(micros(self.future));
        (earliest..=latest).contains(&event.micros())
    }
}

/// Reads a Kafka record's value. A valid event whose texts have no escapes borrows them: nothing is allocated.
///
/// Without a record time the rule about the window is skipped.
pub fn parse(
    value: Option<&[u8]>,
    record_time: Option<Timestamp>,
    window: Window,
) -> Result<ProductEvent<'_>, Rejection> {
    let value = value.unwrap_or_default();
    if value.is_empty() {
        return Err(Rejection::of_value(Reason::EmptyValue));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Rejection::of_value(Reason::ValueTooLarge));
    }
    let text = str::from_utf8(value).map_err(|_| Rejection::of_value(Reason::NotUtf8))?;
    if let Ok(event) = serde_json::from_str::<ProductEvent>(text) {
        event.check(record_time, window)?;
        return Ok(event);
    }
    ProductEvent::diagnose(text, record_time, window)
}

impl ProductEvent<'_> {
    /// The rules that the fields' types do not carry already, for an event made in memory as for one that was read.
    pub fn check(&self, record_time: Option<Timestamp>, window: Window) -> Result<(), Rejection> {
        let outside = record_time.is_some_and(|record| !window.holds(self.event_timestamp, record));
        match self.validate() {
            Ok(()) if !outside => Ok(()),
            validated => {
                let mut violations = Vec::new();
                if outside {
                    violations
                        .push(Violation { reason: Reason::TimestampOutsideWindow, field: Some("event_timestamp") });
                }
                if let Err(errors) = validated {
                    violations.extend(violations_of(&errors));
                }
                Rejection::of_violations(violations).map_or(Ok(()), Err)
            }
        }
    }
}

/// The validator's errors in our terms, in the order of the fields.
pub(crate) fn violations_of(errors: &ValidationErrors) -> impl Iterator<Item = Violation> {
    FIELD_NAMES.iter().copied().flat_map(|field| {
        let of_field = match errors.errors().get(field) {
            Some(ValidationErrorsKind::Field(of_field)) => of_field.as_slice(),
            _ => &[],
        };
        of_field.iter().map(move |error| {
            let empty = error.params.get("value").is_some_and(|value| value == "");
            let reason = match error.code.as_ref() {
                "length" if empty => Reason::TextEmpty,
                "length" => Reason::TextTooLong,
                "non_control_character" => Reason::TextControlCharacters,
                _ => Reason::OutOfRange,
            };
            Violation { reason, field: Some(field) }
        })
    })
}
