//! Validation of values. Both programs use these rules and no others.

use crate::event::ProductEvent;
use crate::field_list::FieldList;
use crate::reason::Reason;
use crate::rejection::{Rejection, Violation};
use crate::timestamp::Timestamp;
use crate::validation::violations_of;
use crate::window::{MAX_VALUE_BYTES, Window};

/// Parses and validates a Kafka record's value.
///
/// A valid event borrows texts without escapes from the value, so that nothing is allocated.
///
/// A record without a timestamp is checked against the window's present; see [`Window`].
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
    /// Checks the rules that the types do not enforce. An event created in memory is checked as [`parse`] checks a
    /// value.
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
            let rejection = Rejection::of_violations(violations, E::FIELDS);
            rejection.map_or(Ok(()), |rejection| Err(rejection.at(event.timestamp(), record_time)))
        }
    }
}
