//! The event's one definition.
//!
//! To add a field: a line in the list below, with a default after `=` (so that records in flight and older Parquet
//! files stay valid), a migration that adds the column with the same default, and `make schema`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;
use validator::Validate;

use crate::field::FieldValue;
use crate::rules::{Window, violations_of};
use crate::{EventType, Reason, Rejection, Timestamp, Violation};

/// From the list of fields: the event, its reading from JSON and the walk over its fields that the other forms use.
macro_rules! product_event {
    ($a:lifetime: $($doc:literal $(#[$attribute:meta])* $name:ident: $type:ty $(= $default:expr)?,)*) => {
        /// What a user did with a product, as the eight fields of a record's value.
        ///
        /// A value of this type may still break rules that its types do not carry:
        /// [`check`](ProductEvent::check) tells.
        #[derive(Clone, Debug, PartialEq, Serialize, Validate)]
        pub struct ProductEvent<$a> {
            $(#[doc = $doc] $(#[$attribute])* pub $name: $type,)*
        }

        /// The fields' names in JSON, PostgreSQL and Parquet, in the order of the columns.
        pub const FIELD_NAMES: &[&str] = &[$(stringify!($name),)*];

        /// Whether a field may be absent, in the same order.
        pub(crate) const HAS_DEFAULT: &[bool] = &[$(product_event!(@has $($default)?),)*];

        #[expect(non_camel_case_types, reason = "the names are the fields'")]
        enum Key { $($name,)* Unknown }

        impl Key {
            fn of(name: &str) -> Self {
                match name { $(stringify!($name) => Self::$name,)* _ => Self::Unknown }
            }
        }

        impl<'de: $a, $a> Visitor<'de> for EventVisitor<$a> {
            type Value = ProductEvent<$a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a product event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProductEvent<$a>, A::Error> {
                $(let mut $name = None;)*
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        $(Key::$name => {
                            if $name.is_some() {
                                return Err(de::Error::duplicate_field(stringify!($name)));
                            }
                            $name = Some(<$type as FieldValue>::from_map(&mut map)?);
                        })*
                        Key::Unknown => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(ProductEvent {
                    $($name: match $name {
                        Some(value) => value,
                        None => product_event!(@absent A, stringify!($name) $(, $default)?),
                    },)*
                })
            }
        }

        impl<$a> ProductEvent<$a> {
            /// Reads a text that is no valid event once more, slowly, and names every rule that it breaks.
            pub(crate) fn diagnose(text: &$a str, record_time: Option<Timestamp>, window: Window) -> Result<Self, Rejection> {
                let object = Object::read(text)?;
                let mut violations = object.duplicates();
                $(let $name = object
                    .field(stringify!($name), product_event!(@option $($default)?), &mut violations);)*
                let broken = violations.clone();
                let event = ProductEvent { $($name,)* };
                // A field that could not be read holds a stand-in here, whose own verdict must not count.
                let of_whole = |violation: &Violation| !broken.iter().any(|one| one.field == violation.field);
                if let Err(errors) = event.validate() {
                    violations.extend(violations_of(&errors).filter(of_whole));
                }
                let outside = Violation { reason: Reason::TimestampOutsideWindow, field: Some("event_timestamp") };
                if of_whole(&outside) && !window.holds(event.event_timestamp, record_time) {
                    violations.push(outside);
                }
                match Rejection::of_violations(violations) {
                    Some(rejection) => Err(rejection.at(event.event_timestamp, record_time)),
                    None => Ok(event),
                }
            }

            /// Appends the JSON object without white space, the fields in the order of the columns: what serde would write,
            /// in a third of the instructions, since names and most values have nothing to escape.
            pub fn write_json(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($name), "\":").as_bytes());
                    self.$name.write_json(out);
                )*
                out[start] = b'{';
                out.push(b'}');
            }

            /// Calls the walker with each field, in the order of the columns.
            #[inline]
            pub(crate) fn walk(&self, walker: &mut impl FieldWalker) {
                $(walker.field(&self.$name);)*
            }

            /// Makes an event from the values that a source has for the fields, in the order of the columns.
            #[inline]
            pub(crate) fn from_source<S: FieldSource<$a>>(source: &mut S) -> Result<Self, S::Error> {
                Ok(Self { $($name: source.field::<$type>(product_event!(@option $($default)?))?,)* })
            }
        }

        #[allow(clippy::extra_unused_lifetimes, reason = "used where a field borrows")]
        /// Calls the visitor with each field's name, description and type, in the order of the columns.
        pub(crate) fn describe_fields<$a>(visitor: &mut impl FieldDescriber) {
            $(visitor.field::<$type>(stringify!($name), $doc, product_event!(@option $($default)?));)*
        }
    };
    (@has) => { false };
    (@has $default:expr) => { true };
    (@option) => { None };
    (@option $default:expr) => { Some($default) };
    (@absent $access:ident, $name:expr) => { return Err(<$access::Error as de::Error>::missing_field($name)) };
    (@absent $access:ident, $name:expr, $default:expr) => { $default };
}

product_event! { 'a:
    "Identity of the event: a UUID of any version."
    event_id: Uuid,
    "When it happened, to the microsecond."
    event_timestamp: Timestamp,
    "What the user did."
    event_type: EventType,
    "Who did it."
    #[validate(range(min = 1))]
    user_id: i32,
    "The customer that the user belongs to."
    #[validate(range(min = 1))]
    account_id: i32,
    "The product that it was about."
    #[validate(range(min = 1))]
    product_id: i32,
    "The category of the product."
    #[validate(length(min = 1, max = 64), non_control_character)]
    category: Cow<'a, str>,
    "The experiment that the user took part in."
    #[validate(length(min = 1, max = 64), non_control_character)]
    experiment_id: Cow<'a, str>,
}

/// What is done with each field's value, whatever its type.
pub(crate) trait FieldWalker {
    fn field<'a, V: FieldValue<'a>>(&mut self, value: &V);
}

/// Where each field's value can come from.
pub(crate) trait FieldSource<'a> {
    type Error;
    fn field<V: FieldValue<'a>>(&mut self, default: Option<V>) -> Result<V, Self::Error>;
}

/// What is said about each field, without a value.
pub(crate) trait FieldDescriber {
    fn field<'a, V: FieldValue<'a>>(&mut self, name: &'static str, description: &'static str, default: Option<V>);
}

struct EventVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Deserialize<'de> for ProductEvent<'a> {
    /// Reads an object only, refuses a field that comes twice and ignores unknown ones.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(Key::of(name))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

/// A JSON object's members as they stand in the text.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    fn read(text: &'a str) -> Result<Self, Rejection> {
        struct Members<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Object<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'a>, A::Error> {
                let mut members = Vec::with_capacity(FIELD_NAMES.len());
                while let Some(name) = map.next_key::<String>()? {
                    members.push((Cow::Owned(name), map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = reader.deserialize_map(Members(PhantomData)).and_then(|object| reader.end().map(|()| object));
        read.map_err(|_| {
            let json = serde_json::from_str::<IgnoredAny>(text).is_ok();
            let object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
            Rejection::of_value(if json && !object { Reason::NotAnObject } else { Reason::NotJson })
        })
    }

    fn duplicates(&self) -> Vec<Violation> {
        let count = |field: &str| self.0.iter().filter(|(name, _)| name == field).count();
        let twice = FIELD_NAMES.iter().filter(|field| count(field) > 1);
        twice.map(|&field| Violation { reason: Reason::DuplicateKey, field: Some(field) }).collect()
    }

    /// The field's value; where it has none, a stand-in and the violation that says why.
    fn field<V: FieldValue<'a>>(&self, field: &'static str, default: Option<V>, violations: &mut Vec<Violation>) -> V {
        let read = match self.0.iter().find(|(name, _)| name == field) {
            Some((_, raw)) if raw.get() == "null" => Err(Reason::NullField),
            Some((_, raw)) => V::from_raw(raw.get()),
            None => default.ok_or(Reason::MissingField),
        };
        read.unwrap_or_else(|reason| {
            violations.push(Violation { reason, field: Some(field) });
            V::stand_in()
        })
    }
}
