//! Validates an event before it is sent.

use event_model::{Rejection, Window, parse};
use workload::{Fault, Generated};

/// Destination of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Validated {
    /// Kafka and the raw files of the lake.
    Valid,
    /// The quarantine only.
    Invalid {
        /// The rejected value.
        value: Vec<u8>,
        /// The reasons.
        rejection: Rejection,
    },
    /// Kafka only, although no reader can parse it: a fault asks for it.
    Corrupt,
}

/// Validates an event as the consumer would, at the time at which the event is due. So the result does not depend on
/// the clock.
#[must_use]
pub fn validate(generated: &Generated<'_>) -> Validated {
    let record_time = Some(generated.due);
    let window = Window::default();
    match generated.fault {
        Some(Fault::Corrupt(_) | Fault::Oversize(_)) => Validated::Corrupt,
        Some(Fault::Invalid(_)) => {
            let mut value = Vec::new();
            generated.write_value(&mut value);
            match parse(Some(&value), record_time, window).err() {
                Some(rejection) => Validated::Invalid { value, rejection },
                None => Validated::Valid,
            }
        }
        _ => match generated.event.check(record_time, window) {
            Ok(()) => Validated::Valid,
            Err(rejection) => {
                let mut value = Vec::new();
                generated.event.write_json(&mut value);
                Validated::Invalid { value, rejection }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::borrow::Cow;

    use event_model::Reason;

    use super::*;
    use crate::test_source::source;

    #[test]
    fn each_fault_has_its_destination() {
        let source = source(&["invalid=30%", "corrupt=30%", "duplicate=10%", "oversize=1%", "late=10%", "hot-key=5%"]);
        for index in 0..1_000 {
            let generated = source.make(index);
            match (generated.fault, validate(&generated)) {
                (Some(Fault::Invalid(kind)), Validated::Invalid { rejection, .. }) => {
                    assert_eq!(rejection.reason(), kind.reason());
                }
                (Some(Fault::Corrupt(_) | Fault::Oversize(_)), Validated::Corrupt) => {}
                (Some(Fault::Invalid(_) | Fault::Corrupt(_) | Fault::Oversize(_)), other) => panic!("{other:?}"),
                (_, Validated::Valid) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_event_that_turns_out_invalid_is_not_sent() {
        let source = source(&[]);
        let mut generated = source.make(0);
        generated.event.category = Cow::Borrowed("");
        let Validated::Invalid { value, rejection } = validate(&generated) else { panic!() };
        assert_eq!(rejection.reason(), Reason::TextEmpty);
        assert!(str::from_utf8(&value).unwrap().contains("\"category\":\"\""));
    }
}
