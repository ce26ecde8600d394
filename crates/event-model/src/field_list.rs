//! A macro that generates an event from a list of fields: the struct, its constructor, JSON, validation, and the traits
//! through which the other formats access the fields.
//!
//! The generated code is straight-line code with one statement per field. Processing a valid event looks up no field.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use validator::Validate;

use crate::field::{Field, FieldValue};
use crate::reason::Reason;
use crate::rejection::{Rejection, Violation};
use crate::timestamp::Timestamp;
use crate::window::Window;

/// Generates an event from its list of fields.
///
/// The list has two parts. Fields under `required` have no default: a value that lacks any of them is invalid. Fields
/// under `defaulted` have a default after `=`, the value of the field in a record, a row or a file that lacks it. The
/// format of a line:
///
/// ```text
/// name: Type [= default], encoding, [rule, …] "description";
/// ```
///
/// `encoding` is the encoding of the Parquet column, `dictionary` or `plain`. A rule is one of the `validator` crate:
/// `range(min = …, max = …)` for integers, `length(min = …, max = …)` and `custom(function = no_control_characters)`
/// for texts.
macro_rules! field_list {
    (
        $(#[$event_doc:meta])* struct $event:ident<$a:lifetime>;
        $(#[$required_doc:meta])* struct $required:ident;
        required { $(
            $r_name:ident: $r_type:ty, $r_encoding:ident, $($r_rule:ident $(($($r_key:ident = $r_value:tt),*))?,)* $r_doc:literal;
        )* }
        defaulted { $(
            $d_name:ident: $d_type:ty = $d_default:expr, $d_encoding:ident,
            $($d_rule:ident $(($($d_key:ident = $d_value:tt),*))?,)* $d_doc:literal;
        )* }
    ) => {
        $(#[$required_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $required<$a> {
            $(#[doc = $r_doc] pub $r_name: $r_type,)*
        }

        impl<$a> $event<$a> {
            /// Creates an event with these fields and defaults for all others.
            #[inline]
            #[must_use]
            pub fn new(required: $required<$a>) -> Self {
                let $required { $($r_name,)* } = required;
                Self { $($r_name,)* $($d_name: $d_default,)* }
            }

            /// Appends the canonical content, the input of the event's hash, as specified in `docs/lake.md`.
            ///
            /// Each required field is a line, followed by a line `name=value` for each other field that is not at its
            /// default.
            #[inline]
            pub fn write_content(&self, out: &mut Vec<u8>) {
                $(
                    self.$r_name.write_content(out);
                    out.push(b'\n');
                )*
                out.pop();
                $(
                    let default: $d_type = $d_default;
                    if self.$d_name != default {
                        out.extend_from_slice(concat!("\n", stringify!($d_name), "=").as_bytes());
                        self.$d_name.write_content(out);
                    }
                )*
            }

            /// Appends the event as a JSON object without the fields that are at their defaults.
            ///
            /// The object parses to the same event, and its bytes remain the same if fields are added later.
            pub fn write_compact_json(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($r_name), "\":").as_bytes());
                    self.$r_name.write_json(out);
                )*
                $(
                    let default: $d_type = $d_default;
                    if self.$d_name != default {
                        out.extend_from_slice(concat!(",\"", stringify!($d_name), "\":").as_bytes());
                        self.$d_name.write_json(out);
                    }
                )*
                out[start] = b'{';
                out.push(b'}');
            }
        }

        field_list! { @all
            $(#[$event_doc])* struct $event<$a>;
            $($r_name: $r_type, [], $r_encoding, [$($r_rule $(($($r_key = $r_value),*))?),*] $r_doc;)*
            $($d_name: $d_type, [$d_default], $d_encoding, [$($d_rule $(($($d_key = $d_value),*))?),*] $d_doc;)*
        }
    };
    (@all
        $(#[$event_doc:meta])* struct $event:ident<$a:lifetime>;
        $(
            $name:ident: $type:ty, [$($default:expr)?], $encoding:ident,
            [$($rule:ident $(($($key:ident = $value:tt),*))?),*] $doc:literal;
        )*
    ) => {
        $(#[$event_doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Validate)]
        pub struct $event<$a> {
            $(#[doc = $doc] $(#[validate($rule $(($($key = $value),*))?)])* pub $name: $type,)*
        }

        #[expect(non_camel_case_types, reason = "the names are the fields'")]
        enum Key { $($name,)* Unknown }

        impl Key {
            fn of(name: &str) -> Self {
                match name { $(stringify!($name) => Self::$name,)* _ => Self::Unknown }
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

        struct EventVisitor<$a>(PhantomData<&$a ()>);

        impl<'de: $a, $a> Deserialize<'de> for $event<$a> {
            /// Deserializes an object. Rejects duplicate fields and ignores unknown ones.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(EventVisitor(PhantomData))
            }
        }

        impl<'de: $a, $a> Visitor<'de> for EventVisitor<$a> {
            type Value = $event<$a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a product event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$event<$a>, A::Error> {
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
                Ok($event {
                    $($name: match $name {
                        Some(value) => value,
                        None => field_list!(@absent A, stringify!($name) $(, $default)?),
                    },)*
                })
            }
        }

        impl<$a> $event<$a> {
            /// Appends the event as a JSON object without white space, with the fields in the order of the columns.
            ///
            /// The bytes are those of serde, written in a third of the instructions, since names and most values need
            /// no escapes.
            pub fn write_json(&self, out: &mut Vec<u8>) {
                let start = out.len();
                $(
                    out.extend_from_slice(concat!(",\"", stringify!($name), "\":").as_bytes());
                    self.$name.write_json(out);
                )*
                out[start] = b'{';
                out.push(b'}');
            }

            /// Converts the event to one that borrows nothing.
            #[must_use]
            pub fn into_static(self) -> $event<'static> {
                $event { $($name: self.$name.into_static(),)* }
            }
        }

        impl<$a> FieldList<$a> for $event<$a> {
            const FIELDS: &'static [Field] = {
                // The types in the list use the lifetime only if a field borrows.
                #[allow(clippy::extra_unused_lifetimes)]
                const fn fields<$a>() -> [Field; [$(stringify!($name)),*].len()] {
                    [$(Field {
                        name: stringify!($name),
                        description: $doc,
                        kind: <$type as FieldValue<$a>>::KIND,
                        rules: &[$(field_list!(@rule $rule $(($($key = $value),*))?)),*],
                        has_default: field_list!(@has $($default)?),
                        dictionary: field_list!(@dictionary $encoding),
                    }.checked(),)*]
                }
                &fields()
            };

            fn timestamp(&self) -> Timestamp {
                self.event_timestamp
            }

            fn diagnose(text: &$a str, record_time: Option<Timestamp>, window: Window) -> Result<Self, Rejection> {
                let object = Object::read(text)?;
                let mut violations = object.duplicates(Self::FIELDS);
                $(let $name = object
                    .field(stringify!($name), field_list!(@option $($default)?), &mut violations);)*
                let event = $event { $($name,)* };
                event.diagnosed(violations, record_time, window)
            }

            #[inline]
            fn walk(&self, walker: &mut impl FieldWalker) {
                $(walker.field(&self.$name);)*
            }

            #[inline]
            fn from_source<S: FieldSource<$a>>(source: &mut S) -> Result<Self, S::Error> {
                Ok(Self { $($name: source.field::<$type>(field_list!(@option $($default)?))?,)* })
            }

            fn describe(visitor: &mut impl FieldDescriber) {
                let mut fields = Self::FIELDS.iter();
                $(
                    if let Some(field) = fields.next() {
                        visitor.field::<$type>(field, field_list!(@option $($default)?));
                    }
                )*
            }
        }
    };
    (@has) => { false };
    (@has $default:expr) => { true };
    (@option) => { None };
    (@option $default:expr) => { Some($default) };
    (@absent $access:ident, $name:expr) => { return Err(<$access::Error as de::Error>::missing_field($name)) };
    (@absent $access:ident, $name:expr, $default:expr) => { $default };
    (@dictionary dictionary) => { true };
    (@dictionary plain) => { false };
    (@rule range($($key:ident = $value:tt),*)) => { Rule::Range(field_list!(@bounds OF_AN_INTEGER, $($key = $value),*)) };
    (@rule length($($key:ident = $value:tt),*)) => { Rule::Length(field_list!(@bounds OF_A_TEXT, $($key = $value),*)) };
    (@bounds $all:ident, $($key:ident = $value:tt),*) => {{
        #[allow(clippy::needless_update, reason = "a rule may give one bound or both")]
        const BOUNDS: Bounds = Bounds { $($key: $value,)* ..Bounds::$all };
        BOUNDS
    }};
    (@rule custom(function = no_control_characters)) => { Rule::NoControlCharacters };
}

/// An event that is accessed through its list of fields.
pub(crate) trait FieldList<'a>: Sized + Validate + Deserialize<'a> {
    /// The fields in the order of the columns.
    const FIELDS: &'static [Field];

    /// Returns the timestamp, which the window around a record limits.
    fn timestamp(&self) -> Timestamp;

    /// Parses a text that is not a valid event a second time, and collects all violations. Slower than deserializing.
    fn diagnose(text: &'a str, record_time: Option<Timestamp>, window: Window) -> Result<Self, Rejection>;

    /// Calls the walker with each field, in the order of the columns.
    fn walk(&self, walker: &mut impl FieldWalker);

    /// Creates an event from the values of a source, in the order of the columns.
    fn from_source<S: FieldSource<'a>>(source: &mut S) -> Result<Self, S::Error>;

    /// Calls the visitor with each field and its default, in the order of the columns.
    fn describe(visitor: &mut impl FieldDescriber);

    /// Returns the event, or a rejection with the given violations and those of the event itself.
    fn diagnosed(
        self,
        mut violations: Vec<Violation>,
        record_time: Option<Timestamp>,
        window: Window,
    ) -> Result<Self, Rejection> {
        let broken = violations.clone();
        // A field that could not be read has a placeholder, whose violations must not count.
        let of_whole = |violation: &Violation| !broken.iter().any(|one| one.field == violation.field);
        violations.extend(crate::validation::violations(&self, Self::FIELDS).into_iter().filter(of_whole));
        let outside = Violation { reason: Reason::TimestampOutsideWindow, field: Some("event_timestamp") };
        if of_whole(&outside) && !window.holds(self.timestamp(), record_time) {
            violations.push(outside);
        }
        match Rejection::of_violations(violations, Self::FIELDS) {
            Some(rejection) => Err(rejection.at(self.timestamp(), record_time)),
            None => Ok(self),
        }
    }
}

/// A visitor of the value of each field.
pub(crate) trait FieldWalker {
    fn field<'a, V: FieldValue<'a>>(&mut self, value: &V);
}

/// A source of field values.
pub(crate) trait FieldSource<'a> {
    type Error;
    fn field<V: FieldValue<'a>>(&mut self, default: Option<V>) -> Result<V, Self::Error>;
}

/// A visitor of the type and the default of each field.
pub(crate) trait FieldDescriber {
    fn field<'a, V: FieldValue<'a>>(&mut self, field: &Field, default: Option<V>);
}

/// Members of a JSON object, with unparsed values.
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, Rejection> {
        struct Members<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Object<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'a>, A::Error> {
                let mut members = Vec::with_capacity(8);
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

    pub(crate) fn duplicates(&self, fields: &[Field]) -> Vec<Violation> {
        let count = |field: &str| self.0.iter().filter(|(name, _)| name == field).count();
        let twice = fields.iter().filter(|field| count(field.name) > 1);
        twice.map(|field| Violation { reason: Reason::DuplicateKey, field: Some(field.name) }).collect()
    }

    /// Returns the value of a field. If it cannot be read, adds a violation and returns a placeholder.
    pub(crate) fn field<V: FieldValue<'a>>(
        &self,
        field: &'static str,
        default: Option<V>,
        violations: &mut Vec<Violation>,
    ) -> V {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![allow(unreachable_pub, reason = "as the event itself is")]

    use arrow_array::{Int32Array, RecordBatch, StringArray};
    use serde::{Serialize, de};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::arrow::{ArrowFormError, EventColumns, read_batch_as};
    use crate::copy::{read_row, write_row};
    use crate::field::{Bounds, Rule};
    use crate::rules::parse_as;
    use crate::schema::schema_of;
    use crate::validation::no_control_characters;
    use crate::{EventType, FIELDS, ProductEvent};

    field_list! {
        /// A later version of the event, with more fields.
        struct Later<'a>;
        /// Its required fields.
        struct LaterRequired;
        required {
            event_id: Uuid, plain, "Identity.";
            event_timestamp: Timestamp, plain, "Time.";
            user_id: i32, dictionary, range(min = 1), "User.";
            category: Cow<'a, str>, dictionary, length(min = 1, max = 64), custom(function = no_control_characters), "Category.";
        }
        defaulted {
            channel: Cow<'a, str> = Cow::Borrowed("web"), dictionary, length(min = 1, max = 8), custom(function = no_control_characters), "Channel.";
            list_position: i32 = 0, plain, range(min = 0, max = 100), "Position, from 1; 0 if there was no list.";
        }
    }

    const VALUE: &str = r#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_timestamp":"2026-11-22T09:30:00.000000Z","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"tools","experiment_id":"exp_1"}"#;

    fn old() -> ProductEvent<'static> {
        parse_as(Some(VALUE.as_bytes()), None, Window::default()).unwrap()
    }

    fn later(value: &str) -> Result<Later<'_>, Vec<(Reason, Option<&'static str>)>> {
        parse_as(Some(value.as_bytes()), None, Window::default()).map_err(|rejection| {
            rejection.violations().iter().map(|violation| (violation.reason, violation.field)).collect()
        })
    }

    fn with(members: &str) -> String {
        VALUE.replace('}', &format!(",{members}}}"))
    }

    fn content(event: &Later<'_>) -> String {
        let mut content = Vec::new();
        event.write_content(&mut content);
        String::from_utf8(content).unwrap()
    }

    fn json(event: &Later<'_>) -> (String, String) {
        let (mut full, mut compact) = (Vec::new(), Vec::new());
        event.write_json(&mut full);
        event.write_compact_json(&mut compact);
        (String::from_utf8(full).unwrap(), String::from_utf8(compact).unwrap())
    }

    #[test]
    fn a_record_without_the_field_reads_the_default() {
        let event = later(VALUE).unwrap();
        assert_eq!((&*event.channel, event.list_position), ("web", 0));
        let slowly = Later::diagnose(VALUE, None, Window::default()).unwrap();
        assert_eq!(slowly, event);
        let value = with(r#""list_position":7,"channel":"app""#);
        let event = later(&value).unwrap().into_static();
        assert_eq!((&*event.channel, event.list_position), ("app", 7));
        assert_eq!(old().event_type, EventType::RfqSent);
    }

    #[test]
    fn a_value_that_is_there_has_to_be_valid() {
        for (members, reason, field) in [
            (r#""channel":null"#, Reason::NullField, "channel"),
            (r#""channel":7"#, Reason::WrongType, "channel"),
            (r#""channel":"""#, Reason::TextEmpty, "channel"),
            (r#""channel":"ninechars""#, Reason::TextTooLong, "channel"),
            (r#""channel":"a\nb""#, Reason::TextControlCharacters, "channel"),
            (r#""channel":"a","channel":"b""#, Reason::DuplicateKey, "channel"),
            (r#""list_position":-1"#, Reason::OutOfRange, "list_position"),
            (r#""list_position":101"#, Reason::OutOfRange, "list_position"),
            (r#""list_position":"1""#, Reason::WrongType, "list_position"),
        ] {
            assert_eq!(later(&with(members)).unwrap_err(), [(reason, Some(field))], "{members}");
        }
    }

    #[test]
    fn a_file_without_the_column_reads_the_default() {
        let mut columns = EventColumns::with_capacity(1);
        columns.append(&old());
        // The current event may have fields with a default too.
        let original = (0..FIELDS.len()).filter(|&column| !FIELDS[column].has_default).collect::<Vec<_>>();
        let batch = columns.finish().project(&original).unwrap();
        let events: Vec<Later<'_>> = read_batch_as(&batch).unwrap().map(Result::unwrap).collect();
        assert_eq!(events, [later(VALUE).unwrap()]);

        let (fields, mut columns) = (batch.schema(), batch.columns().to_vec());
        columns.extend([
            std::sync::Arc::new(StringArray::from(vec!["app"])) as _,
            std::sync::Arc::new(Int32Array::from(vec![7])) as _,
        ]);
        let names = fields.fields().iter().map(|field| field.name().as_str()).chain(["channel", "list_position"]);
        let newer = RecordBatch::try_from_iter(names.zip(columns)).unwrap();
        let events: Vec<Later<'_>> = read_batch_as(&newer).unwrap().map(Result::unwrap).collect();
        assert_eq!((&*events[0].channel, events[0].list_position), ("app", 7));

        let required: Vec<usize> = (1..batch.num_columns()).collect();
        let missing = read_batch_as::<Later<'_>>(&batch.project(&required).unwrap()).err();
        assert_eq!(missing, Some(ArrowFormError::Missing("event_id")));
    }

    #[test]
    fn every_form_has_every_field() {
        let value = with(r#""channel":"app","list_position":7"#);
        let later = later(&value).unwrap();
        let mut row = Vec::new();
        write_row(&later, &mut row);
        assert_eq!(row[..2], [0, 6]);
        assert_eq!(read_row(&row), Some(later.clone()));
        let (full, compact) = json(&later);
        assert_eq!(full, serde_json::to_string(&later).unwrap());
        assert_eq!(full, compact);
        assert!(full.ends_with(r#","category":"tools","channel":"app","list_position":7}"#), "{full}");
    }

    /// An event from before the fields were added keeps its hash.
    #[test]
    fn content_and_compact_json_leave_out_defaults() {
        let event = later(VALUE).unwrap();
        let old = "01890a5d-ac96-774b-bcce-b302099a8057\n1795339800000000\n1\ntools";
        assert_eq!(content(&event), old);
        let (full, compact) = json(&event);
        assert!(full.ends_with(r#""category":"tools","channel":"web","list_position":0}"#), "{full}");
        assert_eq!(compact, full.replace(r#","channel":"web","list_position":0"#, ""));
        let event = Later { list_position: 7, ..event };
        assert_eq!(content(&event), format!("{old}\nlist_position=7"));
        let event = Later { channel: "app".into(), ..event };
        assert_eq!(content(&event), format!("{old}\nchannel=app\nlist_position=7"));
    }

    #[test]
    fn the_constructor_and_the_schema_know_the_defaults() {
        let Later { event_id, event_timestamp, user_id, category, .. } = later(VALUE).unwrap();
        let event = Later::new(LaterRequired { event_id, event_timestamp, user_id, category });
        assert_eq!(event, later(VALUE).unwrap());
        let schema = schema_of::<Later<'static>>();
        assert_eq!(schema["required"], json!(["event_id", "event_timestamp", "user_id", "category"]));
        assert_eq!(schema["x-columns"].as_array().unwrap().len(), 6);
        let position = &schema["properties"]["list_position"];
        assert_eq!(
            (&position["default"], &position["minimum"], &position["maximum"]),
            (&json!(0), &json!(0), &json!(100))
        );
        let channel = &schema["properties"]["channel"];
        assert_eq!((&channel["default"], &channel["maxLength"]), (&json!("web"), &json!(8)));
        let dictionary: Vec<bool> = Later::FIELDS.iter().map(|field| field.dictionary).collect();
        assert_eq!(dictionary, [false, false, true, true, true, false]);
    }
}
