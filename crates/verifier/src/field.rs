//! The fields of an event and their types, as described by `docs/product-event.schema.json`.
//!
//! The schema is the contract with all readers of records, rows and files. Reading the fields from it keeps the
//! verifier independent of the programs, and the verifier compares added fields without a change.

use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;
use uuid::Uuid;

use crate::time;

const SCHEMA: &str = include_str!("../../../docs/product-event.schema.json");

/// A field of the event.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Value of an event that lacks the field; `None` if the field is required.
    pub(crate) default: Option<Scalar<'static>>,
}

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Uuid,
    Time,
    Integer,
    Text,
}

/// Value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    /// The UUID as one number, most significant byte first.
    Uuid(u128),
    /// Microseconds since 1970, UTC.
    Time(i64),
    Integer(i32),
    Text(&'a str),
}

/// The fields in the order of the columns, or an error if the schema cannot be interpreted.
static FIELDS: LazyLock<Result<Vec<Field>, String>> = LazyLock::new(|| {
    static TREE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(SCHEMA).unwrap_or_default());
    read(&TREE)
});

/// Returns the fields in the order of the columns. Empty if the schema cannot be interpreted; see [`check`].
pub(crate) fn fields() -> &'static [Field] {
    FIELDS.as_deref().unwrap_or_default()
}

/// Fails with the reason if the schema cannot be interpreted.
pub(crate) fn check() -> Result<(), String> {
    FIELDS.as_ref().map(drop).map_err(Clone::clone)
}

fn read(schema: &'static Value) -> Result<Vec<Field>, String> {
    let columns = schema["x-columns"].as_array().ok_or("it has no x-columns")?;
    let required = schema["required"].as_array().ok_or("it has no required fields")?;
    let properties = schema["properties"].as_object().ok_or("it has no properties")?;
    if columns.len() != properties.len() {
        return Err("x-columns does not list each property once".to_owned());
    }
    let field = |name: &'static Value| {
        let name = name.as_str().ok_or("x-columns contains a value other than a name")?;
        let property = properties.get(name).ok_or_else(|| format!("{name} is not a property"))?;
        let kind = match (property["type"].as_str(), property["format"].as_str()) {
            (Some("integer"), None) => Kind::Integer,
            (Some("string"), Some("uuid")) => Kind::Uuid,
            (Some("string"), Some("date-time")) => Kind::Time,
            (Some("string"), None) => Kind::Text,
            _ => return Err(format!("the type of {name} is unknown")),
        };
        let default = property.get("default").and_then(|default| kind.of_json(default));
        if default.is_none() && !required.iter().any(|one| one == name) {
            return Err(format!("{name} is not required and has no default"));
        }
        Ok(Field { name, kind, default })
    };
    columns.iter().map(field).collect()
}

impl Kind {
    /// Parses a JSON value. Returns `None` if it is not of this type.
    pub(crate) fn of_json(self, value: &Value) -> Option<Scalar<'_>> {
        match self {
            Self::Uuid => Some(Scalar::Uuid(Uuid::try_parse(value.as_str()?).ok()?.as_u128())),
            Self::Time => Some(Scalar::Time(time::parse(value.as_str()?)?)),
            Self::Integer => Some(Scalar::Integer(i32::try_from(value.as_i64()?).ok()?)),
            Self::Text => value.as_str().map(Scalar::Text),
        }
    }
}

impl Scalar<'_> {
    /// Appends a self-delimiting encoding, unique among the values of the type.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uuid(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::Time(micros) => out.extend_from_slice(&micros.to_be_bytes()),
            Self::Integer(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::Text(text) => {
                out.extend_from_slice(&text.len().to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// Formats the value as in the canonical content of an event.
impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(number) => write!(f, "{:x}", Uuid::from_u128(*number).hyphenated()),
            Self::Time(micros) => write!(f, "{micros}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_is_understood() {
        check().unwrap();
        let names: Vec<&str> = fields().iter().map(|field| field.name).collect();
        assert!(names.starts_with(&[
            "event_id",
            "event_timestamp",
            "event_type",
            "user_id",
            "account_id",
            "product_id"
        ]));
        assert_eq!(fields()[0].kind, Kind::Uuid);
        assert!(fields()[..8].iter().all(|field| field.default.is_none()));
    }

    #[test]
    fn a_field_that_cannot_be_compared_is_an_error() {
        let error = |property: Value, columns: Value| {
            let schema = json!({"x-columns": columns, "required": [], "properties": {"a": property}});
            read(Box::leak(Box::new(schema))).unwrap_err()
        };
        assert!(error(json!({"type": "number", "default": 1}), json!(["a"])).contains("type of a"));
        assert!(error(json!({"type": "string"}), json!(["a"])).contains("a is not required"));
        assert!(error(json!({"type": "integer", "default": "x"}), json!(["a"])).contains("a is not required"));
        assert!(error(json!({"type": "integer", "default": 0}), json!([])).contains("each property once"));
        assert!(error(json!({"type": "integer", "default": 0}), json!(["b"])).contains("b is not a property"));
    }
}
