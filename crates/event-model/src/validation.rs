//! The validator's errors as violations.

use validator::{Validate, ValidationError, ValidationErrors, ValidationErrorsKind};

use crate::field::Field;
use crate::reason::Reason;
use crate::rejection::Violation;

const NO_CONTROL_CHARACTERS: &str = "no_control_characters";

/// Rule of texts. The validator's own `non_control_character` allocates for each text unless the optimizer sees through it.
#[inline]
pub(crate) fn no_control_characters(text: &str) -> Result<(), ValidationError> {
    if text.chars().any(char::is_control) { Err(ValidationError::new(NO_CONTROL_CHARACTERS)) } else { Ok(()) }
}

/// Returns the rules that an event breaks, without the window, in the order of the fields.
pub(crate) fn violations(event: &impl Validate, fields: &'static [Field]) -> Vec<Violation> {
    event.validate().map_or_else(|errors| violations_of(&errors, fields).collect(), |()| Vec::new())
}

/// Returns the validator's errors in our terms, in the order of the fields.
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
