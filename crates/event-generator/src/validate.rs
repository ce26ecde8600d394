//! What becomes of an event: validation, before anything is sent.

use event_model::{Rejection, Window, parse};
use workload::{Fault, Generated};

/// Where an event goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// To Kafka and into the raw lake.
    Valid,
    /// Into the quarantine, and nowhere else.
    Invalid {
        /// What would have been sent.
        value: Vec<u8>,
        /// Why it is not.
        rejection: Rejection,
    },
    /// To Kafka although no reader can take it for an event: that is what was asked for.
    Corrupt,
}

/// Validates an event as the consumer would, as if its record were sent when it is due: the same event always gets the
/// same verdict.
#[must_use]
pub fn judge(generated: &Generated<'_>) -> Verdict {
    let record_time = Some(generated.due);
    let window = Window::default();
    match generated.fault {
        Some(Fault::Corrupt(_) | Fault::Oversize(_)) => Verdict::Corrupt,
        Some(Fault::Invalid(_)) => {
            let mut value = Vec::new();
            generated.write_value(&mut value);
            match parse(Some(&value), record_time, window).err() {
                Some(rejection) => Verdict::Invalid { value, rejection },
                None => Verdict::Valid,
            }
        }
        _ => match generated.event.check(record_time, window) {
            Ok(()) => Verdict::Valid,
            Err(rejection) => {
                let mut value = Vec::new();
                generated.event.write_json(&mut value);
                Verdict::Invalid { value, rejection }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use std::borrow::Cow;

    use event_model::Reason;

    use super::*;
    use crate::pipeline::block_counts::tests::source;

    #[test]
    fn each_fault_has_its_verdict() {
        let source = source(&["invalid=30%", "corrupt=30%", "duplicate=10%", "oversize=1%", "late=10%", "hot-key=5%"]);
        for index in 0..1_000 {
            let generated = source.make(index);
            match (generated.fault, judge(&generated)) {
                (Some(Fault::Invalid(kind)), Verdict::Invalid { rejection, .. }) => {
                    assert_eq!(rejection.reason(), kind.reason());
                }
                (Some(Fault::Corrupt(_) | Fault::Oversize(_)), Verdict::Corrupt) => {}
                (Some(Fault::Invalid(_) | Fault::Corrupt(_) | Fault::Oversize(_)), other) => panic!("{other:?}"),
                (_, Verdict::Valid) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_event_that_turns_out_wrong_is_not_sent() {
        let source = source(&[]);
        let mut generated = source.make(0);
        generated.event.category = Cow::Borrowed("");
        let Verdict::Invalid { value, rejection } = judge(&generated) else { panic!() };
        assert_eq!(rejection.reason(), Reason::TextEmpty);
        assert!(str::from_utf8(&value).unwrap().contains("\"category\":\"\""));
    }
}
