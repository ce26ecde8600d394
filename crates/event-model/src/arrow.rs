//! Converts events to and from Arrow columns, the in-memory form of Parquet files.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{ArrayBuilder, make_builder};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Fields, Schema, SchemaRef};
use thiserror::Error;

use crate::event::{FIELDS, ProductEvent};
use crate::field::{Field, FieldValue};
use crate::field_list::{FieldDescriber, FieldList, FieldSource, FieldWalker};

/// Returns the names of the columns with a dictionary in Parquet, which have few distinct values.
pub fn dictionary_columns() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter(|field| field.dictionary).map(|field| field.name)
}

/// Returns the schema of an event's columns. No column is nullable.
#[must_use]
pub fn arrow_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut columns = Columns(Vec::new());
        ProductEvent::describe(&mut columns);
        Arc::new(Schema::new(Fields::from(columns.0)))
    });
    SCHEMA.clone()
}

struct Columns(Vec<arrow_schema::Field>);

impl FieldDescriber for Columns {
    fn field<'a, V: FieldValue<'a>>(&mut self, field: &Field, _: Option<V>) {
        self.0.push(arrow_schema::Field::new(field.name, V::arrow_type(), false));
    }
}

/// Returns the default of each column that has one, as an array with one row.
#[must_use]
pub fn column_defaults() -> Vec<(&'static str, ArrayRef)> {
    let mut defaults = Defaults(Vec::new());
    ProductEvent::describe(&mut defaults);
    defaults.0
}

struct Defaults(Vec<(&'static str, ArrayRef)>);

impl FieldDescriber for Defaults {
    fn field<'a, V: FieldValue<'a>>(&mut self, field: &Field, default: Option<V>) {
        let Some(default) = default else { return };
        let mut builder = V::Builder::default();
        default.append(&mut builder);
        // The column's type may differ from the builder's: a timestamp column has a time zone.
        let data = builder.finish().into_data().into_builder().data_type(V::arrow_type());
        if let Ok(data) = data.build() {
            self.0.push((field.name, arrow_array::make_array(data)));
        }
    }
}

/// Builder of a [`RecordBatch`] of events.
pub struct EventColumns {
    builders: Vec<Box<dyn ArrayBuilder>>,
    rows: usize,
}

impl EventColumns {
    /// Creates a builder with capacity for `rows` rows.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        let builders = arrow_schema().fields().iter().map(|field| make_builder(field.data_type(), rows)).collect();
        Self { builders, rows: 0 }
    }

    /// Appends an event as a row.
    #[inline]
    pub fn append(&mut self, event: &ProductEvent<'_>) {
        event.walk(&mut Appender(self.builders.iter_mut()));
        self.rows += 1;
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns true if there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the rows as a batch and resets the builder.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let columns = self.builders.iter_mut().map(ArrayBuilder::finish).collect();
        RecordBatch::try_new(arrow_schema(), columns).unwrap_or_else(|_| RecordBatch::new_empty(arrow_schema()))
    }
}

struct Appender<'b>(std::slice::IterMut<'b, Box<dyn ArrayBuilder>>);

impl FieldWalker for Appender<'_> {
    #[inline]
    fn field<'a, V: FieldValue<'a>>(&mut self, value: &V) {
        if let Some(builder) = self.0.next().and_then(|builder| builder.as_any_mut().downcast_mut::<V::Builder>()) {
            value.append(builder);
        }
    }
}

/// A batch that cannot be read as events.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArrowFormError {
    /// A column without a default is absent.
    #[error("column {0} is missing")]
    Missing(&'static str),
    /// A column has another type, a null or an invalid value.
    #[error("row {row} of column {column} is not a valid {column}")]
    Value {
        /// Name of the column.
        column: &'static str,
        /// Row in the batch, from 0.
        row: usize,
    },
}

/// Reads the events of a batch. Unknown columns are ignored, and a missing column results in the field's default.
pub fn read_batch(
    batch: &RecordBatch,
) -> Result<impl Iterator<Item = Result<ProductEvent<'_>, ArrowFormError>>, ArrowFormError> {
    read_batch_as(batch)
}

pub(crate) fn read_batch_as<'a, E: FieldList<'a> + 'a>(
    batch: &'a RecordBatch,
) -> Result<impl Iterator<Item = Result<E, ArrowFormError>> + use<'a, E>, ArrowFormError> {
    let columns: Vec<Option<&ArrayRef>> = E::FIELDS.iter().map(|field| batch.column_by_name(field.name)).collect();
    for (column, field) in columns.iter().zip(E::FIELDS) {
        if column.is_none() && !field.has_default {
            return Err(ArrowFormError::Missing(field.name));
        }
    }
    Ok((0..batch.num_rows())
        .map(move |number| E::from_source(&mut Row { fields: E::FIELDS, columns: &columns, next: 0, number })))
}

struct Row<'c, 'a> {
    fields: &'static [Field],
    columns: &'c [Option<&'a ArrayRef>],
    next: usize,
    number: usize,
}

impl<'a> FieldSource<'a> for Row<'_, 'a> {
    type Error = ArrowFormError;

    #[inline]
    fn field<V: FieldValue<'a>>(&mut self, default: Option<V>) -> Result<V, ArrowFormError> {
        let column = self.fields[self.next].name;
        let array = self.columns[self.next];
        self.next += 1;
        match array {
            None => default.ok_or(ArrowFormError::Missing(column)),
            Some(array) if array.is_null(self.number) => Err(ArrowFormError::Value { column, row: self.number }),
            Some(array) => V::from_array(array, self.number).ok_or(ArrowFormError::Value { column, row: self.number }),
        }
    }
}
