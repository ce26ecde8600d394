//! Fields of the event, and the representations of each field type.

use std::borrow::Cow;
use std::fmt;

use arrow_array::ArrayRef;
use arrow_array::builder::{ArrayBuilder, Int32Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event_type::EventType;
use crate::reason::Reason;
use crate::timestamp::Timestamp;
use crate::window::MAX_VALUE_BYTES;

/// Microseconds from 1970-01-01 to 2000-01-01, the epoch of PostgreSQL's timestamptz.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A field of the event, without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in JSON, PostgreSQL and Parquet.
    pub name: &'static str,
    /// Description, one sentence.
    pub description: &'static str,
    /// Type of the values.
    pub kind: FieldKind,
    /// Rules that the type does not enforce.
    pub rules: &'static [Rule],
    /// True if the field has a default, so that a record, a row or a file may lack it.
    pub has_default: bool,
    /// True if the field has few distinct values, so that its Parquet column has a dictionary.
    pub dictionary: bool,
}

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// [`Uuid`]
    Uuid,
    /// [`Timestamp`]
    Timestamp,
    /// [`EventType`]
    EventType,
    /// `i32`
    Integer,
    /// `Cow<str>`
    Text,
}

/// Rule for the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Bounds of an integer's value.
    Range(Bounds),
    /// Bounds of a text's length in Unicode scalar values.
    Length(Bounds),
    /// The text must not contain control characters.
    NoControlCharacters,
}

/// Inclusive bounds of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lower bound.
    pub min: i64,
    /// Upper bound.
    pub max: i64,
}

impl Bounds {
    #[allow(clippy::cast_lossless, reason = "From is not const")]
    pub(crate) const OF_AN_INTEGER: Self = Self { min: i32::MIN as i64, max: i32::MAX as i64 };
    #[expect(clippy::cast_possible_wrap, reason = "65,536")]
    pub(crate) const OF_A_TEXT: Self = Self { min: 0, max: MAX_VALUE_BYTES as i64 };
}

impl Field {
    /// Returns the field. Fails the compilation if its rules do not fit its type.
    pub(crate) const fn checked(self) -> Self {
        let mut clean = !matches!(self.kind, FieldKind::Text);
        let mut place = 0;
        while place < self.rules.len() {
            match self.rules[place] {
                Rule::Range(_) => assert!(matches!(self.kind, FieldKind::Integer), "range is a rule of integers"),
                // Reason has codes for an empty text and for a long text, but none for a short one.
                Rule::Length(bounds) => {
                    assert!(
                        matches!(self.kind, FieldKind::Text) && bounds.min <= 1,
                        "length is a rule of texts, from 0 or 1"
                    );
                }
                Rule::NoControlCharacters => clean = true,
            }
            place += 1;
        }
        assert!(
            clean,
            "a text needs no_control_characters: PostgreSQL has no NUL, and a line feed ends a field in a hash"
        );
        self
    }

    /// Returns the bounds of an integer, by default those of `i32`.
    #[must_use]
    pub fn range(&self) -> Bounds {
        let range = |rule: &Rule| if let Rule::Range(bounds) = rule { Some(*bounds) } else { None };
        self.rules.iter().find_map(range).unwrap_or(Bounds::OF_AN_INTEGER)
    }

    /// Returns the bounds of a text's length, by default 0 to [`MAX_VALUE_BYTES`].
    #[must_use]
    pub fn length(&self) -> Bounds {
        let length = |rule: &Rule| if let Rule::Length(bounds) = rule { Some(*bounds) } else { None };
        self.rules.iter().find_map(length).unwrap_or(Bounds::OF_A_TEXT)
    }
}

impl FieldKind {
    /// Returns the type of the column in PostgreSQL.
    #[must_use]
    pub const fn sql_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamptz",
            Self::EventType | Self::Text => "text",
            Self::Integer => "integer",
        }
    }
}

/// A field type with its representation in each format of the event.
pub(crate) trait FieldValue<'a>: Sized {
    /// Builder of its Arrow column.
    type Builder: ArrayBuilder + Default;

    /// The owned form of this type.
    type Static;

    /// This type as a value.
    const KIND: FieldKind;

    /// Deserializes the next value of a JSON object. Fails if it is not a valid value of this type.
    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error>;

    /// Parses JSON text that is not null. Fails with the reason for the rejection.
    fn from_raw(json: &'a str) -> Result<Self, Reason>;

    /// Returns a valid placeholder for a value that could not be read.
    fn stand_in() -> Self;

    /// Appends the value as JSON, as serde serializes it.
    fn write_json(&self, out: &mut Vec<u8>);

    /// Returns the value in PostgreSQL's binary format, without its length. Never fails.
    fn to_binary(&self) -> impl AsRef<[u8]>;

    /// Reads a value in PostgreSQL's binary format. Returns `None` if it is invalid.
    fn read_binary(bytes: &'a [u8]) -> Option<Self>;

    /// Returns the type of its Arrow column.
    fn arrow_type() -> DataType;

    /// Appends the value to its Arrow column.
    fn append(&self, builder: &mut Self::Builder);

    /// Reads a value from an Arrow column. Returns `None` if the column has another type or the value is invalid.
    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self>;

    /// Appends the value as in the canonical content of an event, without line feeds.
    fn write_content(&self, out: &mut Vec<u8>);

    /// Converts the value to its owned form.
    fn into_static(self) -> Self::Static;

    /// Returns the JSON Schema of a field of this type, without its description.
    fn json_schema(field: &Field) -> Value;

    /// Returns the value as JSON, for a default in the schema.
    fn to_json(&self) -> Value;
}

/// Returns the unescaped text of a JSON string. Fails with [`Reason::WrongType`] for any other JSON value.
fn text(json: &str) -> Result<Cow<'_, str>, Reason> {
    if !json.starts_with('"') {
        return Err(Reason::WrongType);
    }
    // The text is known to be JSON, so this fails only for an escaped lone surrogate.
    serde_json::from_str::<Text>(json).map(|text| text.0).map_err(|_| Reason::NotJson)
}

/// A string that borrows from the input unless it has escapes. Serde's own `Cow` never borrows.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrowing).map(Text)
    }
}

/// Appends a text in quotes. The text must not need escapes.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Appends a value as JSON with serde, which also escapes texts.
fn serialize(value: impl Serialize, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and JSON can represent every field.
    let written = serde_json::to_writer(out, &value);
    debug_assert!(written.is_ok());
}

/// Parses the hyphenated format of RFC 9562, in upper or lower case. The `uuid` crate would also accept braces and
/// URNs.
fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

impl<'a> FieldValue<'a> for Uuid {
    type Builder = StringBuilder;
    type Static = Self;
    const KIND: FieldKind = FieldKind::Uuid;

    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        uuid(&map.next_value::<Text>()?.0).ok_or_else(|| de::Error::custom(Reason::BadUuid))
    }

    fn from_raw(json: &'a str) -> Result<Self, Reason> {
        uuid(&text(json)?).ok_or(Reason::BadUuid)
    }

    fn stand_in() -> Self {
        Uuid::nil()
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        quote(self.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(), out);
    }

    #[inline]
    fn to_binary(&self) -> impl AsRef<[u8]> {
        self.as_bytes()
    }

    fn read_binary(bytes: &'a [u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok()
    }

    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn append(&self, builder: &mut StringBuilder) {
        builder.append_value(self.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }

    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self> {
        uuid(array.as_string_opt::<i32>()?.value(row))
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    }

    fn into_static(self) -> Self::Static {
        self
    }

    fn json_schema(_: &Field) -> Value {
        json!({"type": "string", "format": "uuid", "minLength": 36, "maxLength": 36})
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl<'a> FieldValue<'a> for Timestamp {
    type Builder = TimestampMicrosecondBuilder;
    type Static = Self;
    const KIND: FieldKind = FieldKind::Timestamp;

    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }

    fn from_raw(json: &'a str) -> Result<Self, Reason> {
        text(json)?.parse().map_err(|_| Reason::BadTimestamp)
    }

    fn stand_in() -> Self {
        Timestamp::from_micros(0)
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        quote(&self.write(), out);
    }

    #[inline]
    fn to_binary(&self) -> impl AsRef<[u8]> {
        (self.micros() - POSTGRES_EPOCH_MICROS).to_be_bytes()
    }

    fn read_binary(bytes: &'a [u8]) -> Option<Self> {
        let micros = i64::from_be_bytes(bytes.try_into().ok()?);
        let time = Timestamp::from_micros(micros.checked_add(POSTGRES_EPOCH_MICROS)?);
        (Timestamp::MIN..=Timestamp::MAX).contains(&time).then_some(time)
    }

    fn arrow_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn append(&self, builder: &mut TimestampMicrosecondBuilder) {
        builder.append_value(self.micros());
    }

    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self> {
        let time = Timestamp::from_micros(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(row));
        (Timestamp::MIN..=Timestamp::MAX).contains(&time).then_some(time)
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(self.micros()).as_bytes());
    }

    fn into_static(self) -> Self::Static {
        self
    }

    fn json_schema(_: &Field) -> Value {
        json!({"type": "string", "format": "date-time"})
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl<'a> FieldValue<'a> for EventType {
    type Builder = StringBuilder;
    type Static = Self;
    const KIND: FieldKind = FieldKind::EventType;

    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }

    fn from_raw(json: &'a str) -> Result<Self, Reason> {
        text(json)?.parse().map_err(|_| Reason::UnknownEventType)
    }

    fn stand_in() -> Self {
        Self::SearchPerformed
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        quote(self.as_str().as_bytes(), out);
    }

    #[inline]
    fn to_binary(&self) -> impl AsRef<[u8]> {
        self.as_str().as_bytes()
    }

    fn read_binary(bytes: &'a [u8]) -> Option<Self> {
        str::from_utf8(bytes).ok()?.parse().ok()
    }

    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn append(&self, builder: &mut StringBuilder) {
        builder.append_value(self.as_str());
    }

    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self> {
        array.as_string_opt::<i32>()?.value(row).parse().ok()
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_str().as_bytes());
    }

    fn into_static(self) -> Self::Static {
        self
    }

    fn json_schema(_: &Field) -> Value {
        json!({"type": "string", "enum": Self::ALL.map(Self::as_str)})
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl<'a> FieldValue<'a> for i32 {
    type Builder = Int32Builder;
    type Static = Self;
    const KIND: FieldKind = FieldKind::Integer;

    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }

    fn from_raw(json: &'a str) -> Result<Self, Reason> {
        let digits = json.strip_prefix('-').unwrap_or(json);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Reason::WrongType);
        }
        json.parse().map_err(|_| Reason::OutOfRange)
    }

    fn stand_in() -> Self {
        1
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        serialize(self, out);
    }

    #[inline]
    fn to_binary(&self) -> impl AsRef<[u8]> {
        self.to_be_bytes()
    }

    fn read_binary(bytes: &'a [u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }

    fn arrow_type() -> DataType {
        DataType::Int32
    }

    fn append(&self, builder: &mut Int32Builder) {
        builder.append_value(*self);
    }

    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self> {
        Some(array.as_primitive_opt::<Int32Type>()?.value(row))
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }

    fn into_static(self) -> Self::Static {
        self
    }

    fn json_schema(field: &Field) -> Value {
        let Bounds { min, max } = field.range();
        json!({"type": "integer", "minimum": min, "maximum": max})
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl<'a> FieldValue<'a> for Cow<'a, str> {
    type Builder = StringBuilder;
    type Static = Cow<'static, str>;
    const KIND: FieldKind = FieldKind::Text;

    fn from_map<'de: 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Self, A::Error> {
        map.next_value::<Text>().map(|text| text.0)
    }

    fn from_raw(json: &'a str) -> Result<Self, Reason> {
        text(json)
    }

    fn stand_in() -> Self {
        Cow::Borrowed("-")
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        if self.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            serialize(self, out);
        } else {
            quote(self.as_bytes(), out);
        }
    }

    #[inline]
    fn to_binary(&self) -> impl AsRef<[u8]> {
        self.as_bytes()
    }

    fn read_binary(bytes: &'a [u8]) -> Option<Self> {
        str::from_utf8(bytes).ok().map(Cow::Borrowed)
    }

    fn arrow_type() -> DataType {
        DataType::Utf8
    }

    fn append(&self, builder: &mut StringBuilder) {
        builder.append_value(self);
    }

    fn from_array(array: &'a ArrayRef, row: usize) -> Option<Self> {
        Some(Cow::Borrowed(array.as_string_opt::<i32>()?.value(row)))
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn into_static(self) -> Self::Static {
        Cow::Owned(self.into_owned())
    }

    fn json_schema(field: &Field) -> Value {
        let Bounds { min, max } = field.length();
        json!({"type": "string", "minLength": min, "maxLength": max, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}
