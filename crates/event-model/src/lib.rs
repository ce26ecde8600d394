//! The product event: its fields, its validation rules and its formats.
//!
//! An event is a JSON object in a Kafka record, a row in PostgreSQL's binary COPY format for the warehouse, and a row
//! of Arrow columns in the lake. All formats are derived from one list of fields in `event.rs`: a new field takes one
//! line there and one script in `db_table_scripts`.
//!
//! This crate is pure: no I/O, no runtime, no clock.

mod arrow;
mod copy;
mod event_type;
mod field;
#[macro_use]
mod field_list;
mod event;
mod reason;
mod rejection;
mod rules;
mod schema;
mod timestamp;
mod validation;
mod window;

#[cfg(test)]
mod fuzz;

pub use arrow::{ArrowFormError, EventColumns, arrow_schema, column_defaults, dictionary_columns, read_batch};
pub use copy::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER, read_copy_row};
pub use event::{FIELD_NAMES, FIELDS, ProductEvent, RequiredFields};
pub use event_type::{EventType, UnknownEventType};
pub use field::{Bounds, Field, FieldKind, Rule};
pub use reason::{Reason, UnknownReason};
pub use rejection::{Rejection, Violation};
pub use rules::parse;
pub use schema::json_schema;
pub use timestamp::{BadTimestamp, Hour, Timestamp};
pub use window::{MAX_VALUE_BYTES, Window};
