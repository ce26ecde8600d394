//! Locates the rule violations in a payload.

use std::collections::BTreeMap;

use event_model::{MAX_VALUE_BYTES, Reason, Rejection, Timestamp, Violation, Window, parse};
use serde_json::value::RawValue;

use crate::commands::printable::Mark;

/// Validates a payload by the current rules. Returns the rejection and a mark for each violation that has a position.
pub(crate) fn validate(
    payload: Option<&[u8]>,
    record_time: Option<Timestamp>,
    window: Window,
) -> Result<(), (Rejection, Vec<Mark>)> {
    match parse(payload, record_time, window) {
        Ok(_) => Ok(()),
        Err(rejection) => {
            let marks = marks(payload.unwrap_or_default(), &rejection);
            Err((rejection, marks))
        }
    }
}

fn marks(payload: &[u8], rejection: &Rejection) -> Vec<Mark> {
    let values = values(payload);
    let mark = |violation: &Violation| {
        let at = match violation.field {
            Some(field) => *values.get(field)?,
            None => place(payload, violation.reason)?,
        };
        let means = violation.reason.means();
        Some(Mark { at, what: violation.field.map_or_else(|| means.to_owned(), |field| format!("{field}: {means}")) })
    };
    rejection.violations().iter().filter_map(mark).collect()
}

/// Returns the byte offset at which a rule about the whole value is violated.
fn place(payload: &[u8], reason: Reason) -> Option<usize> {
    match reason {
        Reason::ValueTooLarge => Some(MAX_VALUE_BYTES),
        Reason::NotUtf8 => str::from_utf8(payload).err().map(|error| error.valid_up_to()),
        Reason::NotAnObject => Some(0),
        Reason::NotJson => {
            let error = serde_json::from_slice::<&RawValue>(payload).err()?;
            // `serde_json` counts lines from 1. Its column is the number of bytes read from the line, including the one
            // that it rejects.
            let line: usize =
                payload.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1).map(<[u8]>::len).sum();
            let stumbled = if error.is_eof() { payload.len() } else { (line + error.column()).saturating_sub(1) };
            Some(stumbled.min(payload.len()))
        }
        _ => None,
    }
}

/// Returns the byte offset of each member's value; of the last one if a name is repeated.
fn values(payload: &[u8]) -> BTreeMap<String, usize> {
    let start = payload.as_ptr().addr();
    let members: Option<BTreeMap<String, &RawValue>> = serde_json::from_slice(payload).ok();
    let place = |(name, raw): (String, &RawValue)| (name, raw.get().as_ptr().addr() - start);
    members.unwrap_or_default().into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(payload: &[u8]) -> Vec<(usize, String)> {
        let refused = validate(Some(payload), None, Window::default()).unwrap_err();
        refused.1.into_iter().map(|mark| (mark.at, mark.what.split(':').next().unwrap().to_owned())).collect()
    }

    #[test]
    fn each_kind_of_fault_has_its_place() {
        assert_eq!(found(b"{\"user_id\":\"\xff\"}")[0].0, 12);
        assert_eq!(found(b"[1]")[0].0, 0);
        assert_eq!(found(b"{\"a\":1,\n \"b\":x}")[0].0, 13);
        assert_eq!(found(b"{\"event_id\":")[0].0, 12);
        assert_eq!(found(&vec![b' '; MAX_VALUE_BYTES + 1])[0].0, MAX_VALUE_BYTES);
        let two = br#"{"event_id": "no", "event_type":7, "user_id":1,"account_id":2, "product_id":3, "category":"a"}"#;
        let expected = [(32, "event_type".to_owned()), (13, "event_id".to_owned())];
        assert_eq!(found(two), expected, "a missing field has no position");
    }
}
