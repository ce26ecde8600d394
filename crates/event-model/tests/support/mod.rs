//! A strategy that generates valid events for property tests.

use event_model::{Bounds, EventType, FIELDS, Field, FieldKind, ProductEvent, Timestamp};
use proptest::prelude::*;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Returns a strategy for events with any valid value in each field.
pub(crate) fn events() -> impl Strategy<Value = ProductEvent<'static>> {
    FIELDS.iter().map(member).collect::<Vec<_>>().prop_map(|members| {
        let json = Value::Object(Map::from_iter(members)).to_string();
        serde_json::from_str::<ProductEvent<'_>>(&json).map(ProductEvent::into_static).unwrap()
    })
}

fn member(field: &Field) -> BoxedStrategy<(String, Value)> {
    let name = field.name.to_owned();
    value(field).prop_map(move |value| (name.clone(), value)).boxed()
}

fn value(field: &Field) -> BoxedStrategy<Value> {
    match field.kind {
        FieldKind::Uuid => any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string().into()).boxed(),
        FieldKind::Timestamp => (Timestamp::MIN.micros()..=Timestamp::MAX.micros())
            .prop_map(|micros| Timestamp::from_micros(micros).to_string().into())
            .boxed(),
        FieldKind::EventType => prop::sample::select(&EventType::ALL[..]).prop_map(|kind| kind.as_str().into()).boxed(),
        FieldKind::Integer => {
            let Bounds { min, max } = field.range();
            (min..=max).prop_map(Value::from).boxed()
        }
        FieldKind::Text => {
            let Bounds { min, max } = field.length();
            prop::string::string_regex(&format!("[^\\p{{Cc}}]{{{min},{max}}}")).unwrap().prop_map(Value::from).boxed()
        }
    }
}
