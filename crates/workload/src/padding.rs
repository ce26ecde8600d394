//! A meaningless field that makes a record larger.

use crate::keyed_rng::{KeyedRng, key_for};

const PURPOSE: u64 = 5;
const NAME: &[u8] = b",\"padding\":\"";

/// Appends a field of `letters` letters to the JSON object at the end of `out`. Parsers of events ignore it.
pub(crate) fn pad(out: &mut Vec<u8>, index: u64, letters: usize) {
    let Some(b'}') = out.pop() else { return };
    out.extend_from_slice(NAME);
    let end = out.len() + letters;
    let mut numbers = KeyedRng::new(key_for(0, PURPOSE), index);
    while out.len() < end {
        // Four bits of entropy per letter: about as compressible as text.
        out.extend(numbers.next().to_le_bytes().map(|byte| b'a' + byte % 16));
    }
    out.truncate(end);
    out.extend_from_slice(b"\"}");
}

/// Pads the object that begins at `start` to `bytes` bytes in total. An object too large for that gets an empty field.
pub(crate) fn pad_to(out: &mut Vec<u8>, index: u64, start: usize, bytes: usize) {
    let fixed = out.len() - start + NAME.len() + 1;
    pad(out, index, bytes.saturating_sub(fixed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_the_event_has_the_name() {
        let name = |field: &event_model::Field| format!(",\"{}\":\"", field.name).into_bytes();
        assert!(event_model::FIELDS.iter().all(|field| name(field) != NAME));
    }
}
