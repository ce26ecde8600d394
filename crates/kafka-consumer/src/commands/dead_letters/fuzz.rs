//! Fuzz target: the output for any dead letter cannot control a terminal.

use event_model::{Timestamp, Window};

use crate::commands::dead_letters::show;
use crate::commands::dead_letters::stored::StoredLetter;
use crate::commands::printable::json_line;
use crate::dead_letter::{header_name, storable};
use crate::kafka::group_topic::GroupTopic;

/// Separates the parts of an input. The byte occurs in no UTF-8.
const SEPARATOR: u8 = 0xfe;

#[test]
fn dead_letters() {
    let group_topic = GroupTopic { group: "kafka-consumer".to_owned(), topic: "product-events".to_owned() };
    fuzz::check("dead_letters", move |input: &[u8]| {
        let letter = letter(input);
        let mut text = Vec::new();
        show::print(&letter, &group_topic, Window::default(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.chars().find(|one| controls_terminal(*one) && *one != '\n'), None, "{text:?}");

        let json = json_line(&letter.json());
        assert_eq!(json.chars().find(|one| controls_terminal(*one)), None, "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), letter.json());
    });
}

/// Creates a dead letter from the message of an error, a key, the name and the value of a header, and a payload.
fn letter(input: &[u8]) -> StoredLetter {
    let mut parts = input.splitn(5, |byte| *byte == SEPARATOR);
    let mut part = || parts.next().map(<[u8]>::to_vec);
    let reason = storable(&String::from_utf8_lossy(&part().unwrap_or_default()));
    let (key, name, value, payload) = (part(), part().unwrap_or_default(), part(), part());
    StoredLetter {
        incarnation: 1,
        partition: 3,
        offset: 12_000,
        record_time: None,
        key,
        payload,
        headers: vec![(header_name(&name), value)],
        stage: "validate".to_owned(),
        reason_code: "not_json".to_owned(),
        reason,
        sqlstate: None,
        first_seen: Timestamp::from_micros(1_795_339_800_000_000),
        attempts: 1,
        replayed: None,
        discarded: None,
    }
}

/// Returns true for control characters, and for those that are invisible, break lines or change the direction of
/// writing.
fn controls_terminal(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
