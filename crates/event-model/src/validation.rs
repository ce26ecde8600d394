//! Converts the errors of the `validator` crate to violations.

use validator::{Validate, ValidationError, ValidationErrors, ValidationErrorsKind};

use crate::field::Field;
use crate::reason::Reason;
use crate::rejection::Violation;

const NO_CONTROL_CHARACTERS: &str = "no_control_characters";

/// Fails if a text has control characters. The validator's own `non_control_character` allocates for each text unless
/// the allocation is optimized away.
#[inline]
pub(crate) fn no_control_characters(text: &str) -> Result<(), ValidationError> {
    if text.chars().any(char::is_control) { Err(ValidationError::new(NO_CONTROL_CHARACTERS)) } else { Ok(()) }
}

/// Returns the violations of an event in the order of the fields. Does not check the window.
pub(crate) fn violations(event: &impl Validate, fields: &'static [Field]) -> Vec<Violation> {
    event.validate().map_or_else(|errors| violations_of(&errors, fields).collect(), |()| Vec::new())
}

/// Converts the validator's errors to violations, in the order of the fields.
pub(crate) fn violations_of(errors: &ValidationErrors, fields: &'static [Field]) -> impl Iterator<Item = Violation> {
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
