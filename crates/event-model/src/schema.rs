//! The JSON Schema of a record's value.

use serde_json::{Map, Value, json};

use crate::event::ProductEvent;
use crate::field::{Field, FieldValue};
use crate::field_list::{FieldDescriber, FieldList};

/// Returns the schema of a valid event (JSON Schema, draft 2020-12), the content of `docs/product-event.schema.json`.
///
/// `x-columns` lists the fields in the order of the columns. The schema cannot express two rules: that keys are unique,
/// and the window around the record's timestamp.
#[must_use]
pub fn json_schema() -> Value {
    schema_of::<ProductEvent<'static>>()
}

pub(crate) fn schema_of<E: FieldList<'static>>() -> Value {
    let mut object = Properties::default();
    E::describe(&mut object);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "product event",
        "description": "Value of a record of the topic product-events. Unknown fields are ignored.",
        "type": "object",
        "required": object.required,
        "properties": object.properties,
        "x-columns": E::FIELDS.iter().map(|field| field.name).collect::<Vec<_>>(),
    })
}

#[derive(Default)]
struct Properties {
    required: Vec<&'static str>,
    properties: Map<String, Value>,
}

impl FieldDescriber for Properties {
    fn field<'a, V: FieldValue<'a>>(&mut self, field: &Field, default: Option<V>) {
        let mut schema = V::json_schema(field);
        schema["description"] = json!(field.description);
        match default {
            Some(default) => schema["default"] = default.to_json(),
            None => self.required.push(field.name),
        }
        self.properties.insert(field.name.to_owned(), schema);
    }
}
