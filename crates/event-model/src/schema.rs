//! The JSON Schema of a record's value.

use serde_json::{Map, Value, json};

use crate::event::{FieldDescriber, describe_fields};
use crate::field::FieldValue;

/// The schema (JSON Schema, draft 2020-12) of a valid event, as docs/product-event.schema.json holds it. It cannot
/// say everything: keys that come twice and the window around the record's time stand in the rules only.
#[must_use]
pub fn json_schema() -> Value {
    let mut object = Properties::default();
    describe_fields(&mut object);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "product event",
        "description": "The value of a record of the topic product-events. Unknown fields are ignored.",
        "type": "object",
        "required": object.required,
        "properties": object.properties,
    })
}

#[derive(Default)]
struct Properties {
    required: Vec<&'static str>,
    properties: Map<String, Value>,
}

impl FieldDescriber for Properties {
    fn field<'a, V: FieldValue<'a>>(&mut self, name: &'static str, description: &'static str, default: Option<V>) {
        let mut schema = V::json_schema();
        schema["description"] = json!(description);
        match default {
            Some(default) => schema["default"] = default.to_json(),
            None => self.required.push(name),
        }
        self.properties.insert(name.to_owned(), schema);
    }
}
