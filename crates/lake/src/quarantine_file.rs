//! Files of values that the generator rejected, with the reasons.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use event_model::{Rejection, Timestamp};

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::parquet_file::{Encoded, Form, Nulls, Reader, Writer};

/// A rejected value.
///
/// `raw` is text, so that every tool can display it. Each invalid UTF-8 sequence is replaced with U+FFFD and the reason
/// code `not_utf8` marks the row. The settings of the run and the index reproduce the exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Index in the run, below 2^63.
    pub event_index: u64,
    /// Due time.
    pub due: Timestamp,
    /// The value as text.
    pub raw: String,
    /// Codes of all violated rules, in order of precedence; never empty.
    pub reason_codes: Vec<String>,
    /// Fields that violate a rule, in the same order, without repetition; empty if the value as a whole is rejected.
    pub fields: Vec<String>,
}

impl QuarantineRow {
    /// Creates the row for a rejected value.
    #[must_use]
    pub fn new(event_index: u64, due: Timestamp, value: &[u8], rejection: &Rejection) -> Self {
        let mut fields: Vec<String> = Vec::new();
        for field in rejection.violations().iter().filter_map(|violation| violation.field) {
            if !fields.iter().any(|known| known == field) {
                fields.push(field.to_owned());
            }
        }
        Self {
            event_index,
            due,
            raw: String::from_utf8_lossy(value).into_owned(),
            reason_codes: rejection.violations().iter().map(|violation| violation.reason.code().to_owned()).collect(),
            fields,
        }
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let texts = || DataType::List(Arc::new(Field::new("element", DataType::Utf8, false)));
    Arc::new(Schema::new(vec![
        Field::new("event_index", DataType::Int64, false),
        Field::new("due", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("raw", DataType::Utf8, false),
        Field::new("reason_codes", texts(), false),
        Field::new("fields", texts(), false),
    ]))
});

/// Reads a file of the quarantine: an iterator over the rows of each batch.
pub struct QuarantineFile(Reader);

fn form() -> Form {
    Form { schema: Arc::clone(&SCHEMA), defaults: Vec::new() }
}

impl QuarantineFile {
    /// Encodes a file of these rows.
    pub fn encode(rows: &[QuarantineRow]) -> Result<Encoded, LakeError> {
        const FILE: &str = "a quarantine file";
        let dictionary = ["reason_codes.list.element", "fields.list.element"];
        let mut writer = Writer::new(FILE, &form(), &dictionary)?;
        let batch = columns(rows).map_err(|source| LakeError::Encode { file: FILE, source: source.into() })?;
        writer.write(&batch)?;
        writer.finish()
    }

    /// Opens a file. `key` is used in error messages.
    pub fn open(key: &str, bytes: Bytes) -> Result<Self, LakeError> {
        let reader = Reader::open(key, bytes, &form(), Nulls::Refuse)?;
        Ok(Self(reader))
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Returns the content hash in the footer, if any.
    #[must_use]
    pub fn content_hash(&self) -> Option<ContentHash> {
        self.0.hash
    }
}

/// Yields the rows of one batch at a time.
impl Iterator for QuarantineFile {
    type Item = Result<Vec<QuarantineRow>, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.0.next()?;
        Some(batch.and_then(|batch| {
            rows_of(&batch).ok_or_else(|| LakeError::BadFile {
                key: self.0.key().to_owned(),
                problem: "it lacks a column or contains an invalid value".to_owned(),
            })
        }))
    }
}

fn columns(rows: &[QuarantineRow]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let list = || {
        let element = Field::new("element", DataType::Utf8, false);
        ListBuilder::new(StringBuilder::new()).with_field(element)
    };
    let mut event_index = Int64Builder::with_capacity(rows.len());
    let mut due = TimestampMicrosecondBuilder::with_capacity(rows.len()).with_timezone("UTC");
    let mut raw = StringBuilder::new();
    let (mut reason_codes, mut fields) = (list(), list());
    for row in rows {
        event_index.append_value(i64::try_from(row.event_index).unwrap_or(i64::MAX));
        due.append_value(row.due.micros());
        raw.append_value(&row.raw);
        reason_codes.append_value(row.reason_codes.iter().map(Some));
        fields.append_value(row.fields.iter().map(Some));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(event_index.finish()),
        Arc::new(due.finish()),
        Arc::new(raw.finish()),
        Arc::new(reason_codes.finish()),
        Arc::new(fields.finish()),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
}

fn rows_of(batch: &RecordBatch) -> Option<Vec<QuarantineRow>> {
    let column = |name| batch.column_by_name(name);
    let event_index = column("event_index")?.as_primitive_opt::<Int64Type>()?;
    let due = column("due")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let raw = column("raw")?.as_string_opt::<i32>()?;
    let reason_codes = column("reason_codes")?.as_list_opt::<i32>()?;
    let fields = column("fields")?.as_list_opt::<i32>()?;
    let row = |row| {
        Some(QuarantineRow {
            event_index: u64::try_from(event_index.value(row)).ok()?,
            due: Timestamp::from_micros(due.value(row)),
            raw: raw.value(row).to_owned(),
            reason_codes: texts(reason_codes.value(row).as_string_opt()?),
            fields: texts(fields.value(row).as_string_opt()?),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

fn texts(array: &StringArray) -> Vec<String> {
    array.iter().flatten().map(str::to_owned).collect()
}
