//! Translates the rules of the event's fields to SQL, for checks of the table.

use event_model::{Bounds, FIELDS, FieldKind};

/// Fills in the placeholders of a check's text: `{texts}` with the names of the text fields, `{texts_broken}` and
/// `{integers_broken}` with conditions that are true if a value breaks a rule.
pub(super) fn fill(sql: &str) -> String {
    let of = |kind, condition: fn(&event_model::Field) -> String, separator| {
        let fields = FIELDS.iter().filter(|field| field.kind == kind);
        fields.map(condition).collect::<Vec<_>>().join(separator)
    };
    sql.replace("{texts}", &of(FieldKind::Text, |field| field.name.to_owned(), ", "))
        .replace("{texts_broken}", &of(FieldKind::Text, text_broken, "\n             OR "))
        .replace("{integers_broken}", &of(FieldKind::Integer, integer_broken, " OR "))
}

fn text_broken(field: &event_model::Field) -> String {
    let (name, Bounds { min, max }) = (field.name, field.length());
    format!("char_length({name}) NOT BETWEEN {min} AND {max} OR {name} ~ '[\\x01-\\x1f\\x7f-\\x9f]'")
}

fn integer_broken(field: &event_model::Field) -> String {
    let (name, Bounds { min, max }) = (field.name, field.range());
    format!("{name} NOT BETWEEN {min} AND {max}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_with_rules_is_checked() {
        let filled = fill(include_str!("sql/values_in_range.sql"));
        assert!(!filled.contains('{'), "{filled}");
        assert!(filled.contains("GROUP BY category, experiment_id"), "{filled}");
        for field in FIELDS.iter().filter(|field| !field.rules.is_empty()) {
            let name = field.name;
            let checked =
                [format!(" {name} NOT BETWEEN "), format!("({name} NOT BETWEEN "), format!("({name}) NOT BETWEEN ")];
            assert!(checked.iter().any(|text| filled.contains(text)), "{name}: {filled}");
        }
    }
}
