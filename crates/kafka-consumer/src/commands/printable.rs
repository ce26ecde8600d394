//! Escapes untrusted bytes for a terminal.

use std::fmt::Write;

use serde_json::Value;
use unicode_width::UnicodeWidthChar;

/// Remark about a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Index of the byte; the length of the input marks its end.
    pub(crate) at: usize,
    /// Text of the remark.
    pub(crate) what: String,
}

/// A character or an invalid byte, in its printable form.
struct Piece {
    at: usize,
    bytes: usize,
    text: String,
    width: usize,
    ends_line: bool,
}

/// Returns the bytes as one line. Control characters, characters without a width and invalid UTF-8 are escaped, so that
/// the text cannot move the cursor, change colours or reverse the direction of writing.
#[must_use]
pub(crate) fn escaped(bytes: &[u8]) -> String {
    pieces(bytes).map(|piece| piece.text).collect()
}

/// Returns a value as one line of JSON. Characters that [`escaped`] escapes are escaped as in JSON, so that the line has
/// the same meaning.
#[must_use]
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for one in value.to_string().chars() {
        if printable_width(one).is_some() {
            line.push(one);
        } else {
            for unit in one.encode_utf16(&mut [0; 2]) {
                // Writing to a `String` cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line
}

/// Returns the bytes as lines of at most `width` columns, broken after line feeds too. The remarks about a line follow
/// it, each under its byte.
#[must_use]
pub(crate) fn marked_lines(bytes: &[u8], marks: &[Mark], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut columns, mut carets) = (String::new(), 0, Vec::new());
    let mut marks: Vec<&Mark> = marks.iter().collect();
    marks.sort_by_key(|mark| mark.at);
    let mut marks = marks.into_iter().peekable();
    let mut finish = |line: &mut String, columns: &mut usize, carets: &mut Vec<(usize, &Mark)>| {
        lines.push(std::mem::take(line));
        lines.extend(carets.drain(..).map(|(column, mark)| caret(column, &mark.what, width)));
        *columns = 0;
    };
    for piece in pieces(bytes) {
        if columns + piece.width > width && columns > 0 {
            finish(&mut line, &mut columns, &mut carets);
        }
        while let Some(mark) = marks.next_if(|mark| mark.at < piece.at + piece.bytes) {
            carets.push((columns, mark));
        }
        line.push_str(&piece.text);
        columns += piece.width;
        if piece.ends_line {
            finish(&mut line, &mut columns, &mut carets);
        }
    }
    carets.extend(marks.map(|mark| (columns, mark)));
    if !line.is_empty() || !carets.is_empty() {
        finish(&mut line, &mut columns, &mut carets);
    }
    lines
}

/// Formats a remark under its column, with the text on the side of the caret that has room.
fn caret(column: usize, what: &str, width: usize) -> String {
    let length = what.chars().count();
    if column + 2 + length > width && length < column {
        format!("{}{what} ^", " ".repeat(column - length - 1))
    } else {
        format!("{}^ {what}", " ".repeat(column))
    }
}

impl Piece {
    fn escape(at: usize, bytes: usize, text: String) -> Self {
        Self { at, bytes, width: text.len(), text, ends_line: false }
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    bytes.utf8_chunks().flat_map(move |chunk| {
        let start = at;
        at += chunk.valid().len() + chunk.invalid().len();
        let bad = start + chunk.valid().len();
        let characters = chunk.valid().char_indices().map(move |(place, one)| character(start + place, one));
        characters.chain(
            chunk
                .invalid()
                .iter()
                .enumerate()
                .map(move |(place, byte)| Piece::escape(bad + place, 1, format!("\\x{byte:02x}"))),
        )
    })
}

fn character(at: usize, one: char) -> Piece {
    let escape = |text: String| Piece::escape(at, one.len_utf8(), text);
    match one {
        '\n' => Piece { ends_line: true, ..escape("\\n".to_owned()) },
        '\r' => escape("\\r".to_owned()),
        '\t' => escape("\\t".to_owned()),
        one if one.is_ascii_control() => escape(format!("\\x{:02x}", u32::from(one))),
        one => match printable_width(one) {
            Some(width) => Piece { at, bytes: one.len_utf8(), text: one.to_string(), width, ends_line: false },
            None => escape(format!("\\u{{{:x}}}", u32::from(one))),
        },
    }
}

/// Returns the number of columns that a character takes. `None` if it takes none or may control the terminal.
fn printable_width(one: char) -> Option<usize> {
    // The line and the paragraph separator have a width.
    one.width().filter(|width| *width > 0 && !matches!(one, '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let nasty = "a\u{1b}[31mb\u{202e}c\u{9b}d\0\r\n".as_bytes();
        assert_eq!(escaped(nasty), r"a\x1b[31mb\u{202e}c\u{9b}d\x00\r\n");
        assert_eq!(escaped(b"\xffM\xc3\xb6bel\xc3"), "\\xffM\u{f6}bel\\xc3");
        assert_eq!(escaped("a\u{2028}b\u{2029}".as_bytes()), r"a\u{2028}b\u{2029}");
    }

    #[test]
    fn json_has_the_same_meaning_without_what_a_terminal_obeys() {
        let value = json!({"a\u{9b}": "\u{1b}[31m\u{7f}\u{202e}\u{2028}\u{e0001}\"\\M\u{f6}bel"});
        let line = json_line(&value);
        let expected = "{\"a\\u009b\":\"\\u001b[31m\\u007f\\u202e\\u2028\\udb40\\udc01\\\"\\\\M\u{f6}bel\"}";
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn marks_stand_under_what_they_mean() {
        let mark = |at, what: &str| Mark { at, what: what.to_owned() };
        let text = "{\"a\":\"\u{6f22}\0\",1}";
        let lines = marked_lines(text.as_bytes(), &[mark(9, "a NUL"), mark(99, "the end")], 20);
        assert_eq!(lines, ["{\"a\":\"\u{6f22}\\x00\",1}", "        ^ a NUL", "        the end ^"]);
        assert_eq!(marked_lines(b"abcdef", &[mark(4, "here")], 3), ["abc", "def", " ^ here"]);
        assert_eq!(marked_lines(b"", &[mark(0, "empty")], 3), ["", "^ empty"]);
        assert_eq!(marked_lines(b"1\n2", &[], 9), ["1\\n", "2"]);
    }
}
