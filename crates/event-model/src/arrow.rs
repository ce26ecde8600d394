//! The event as Arrow columns, which Parquet files are written from and read into.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{ArrayBuilder, make_builder};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Fields, Schema, SchemaRef};
use thiserror::Error;

use crate::event::{FIELDS, ProductEvent};
use crate::field::{Field, FieldValue};
use crate::field_list::{FieldDescriber, FieldList, FieldSource, FieldWalker};

/// Returns the columns with few different values, worth a dictionary in Parquet.
pub fn dictionary_columns() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter(|field| field.dictionary).map(|field| field.name)
}

/// Returns the columns in their order, none of them nullable.
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
        // The type of the column may be more than the builder's: a timestamp has its zone.
        let data = builder.finish().into_data().into_builder().data_type(V::arrow_type());
        if let Ok(data) = data.build() {
            self.0.push((field.name, arrow_array::make_array(data)));
        }
    }
}

/// Events on their way into a [`RecordBatch`].
pub struct EventColumns {
    builders: Vec<Box<dyn ArrayBuilder>>,
    rows: usize,
}

impl EventColumns {
    /// Room for so many rows.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        let builders = arrow_schema().fields().iter().map(|field| make_builder(field.data_type(), rows)).collect();
        Self { builders, rows: 0 }
    }

    /// Adds a row.
    #[inline]
    pub fn append(&mut self, event: &ProductEvent<'_>) {
        event.walk(&mut Appender(self.builders.iter_mut()));
        self.rows += 1;
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows so far as a batch; begins anew without any.
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

/// A batch that does not have the event's columns.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArrowFormError {
    /// A column without a default is absent.
    #[error("the column {0} is missing")]
    Missing(&'static str),
    /// A column has another type, a null, or a text that is no value of the field.
    #[error("row {row} of the column {column} is not a valid {column}")]
    Value {
        /// The column.
        column: &'static str,
        /// The row in the batch, from 0.
        row: usize,
    },
}

/// The events of a batch, whatever further columns it has. A column that is absent gives the field's default.
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
