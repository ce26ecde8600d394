//! Definition of the product event.
//!
//! A new field takes one line in the list below and one script in `db_table_scripts`; see `CONTRIBUTING.md`. All else
//! is derived from the list: JSON, validation, the JSON schema, COPY rows, Arrow columns, the encoding in Parquet,
//! hashes and the checks of the table.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use uuid::Uuid;
use validator::Validate;

use crate::event_type::EventType;
use crate::field::{Bounds, Field, FieldValue, Rule};
use crate::field_list::{FieldDescriber, FieldList, FieldSource, FieldWalker, Object};
use crate::rejection::Rejection;
use crate::timestamp::Timestamp;
use crate::validation::no_control_characters;
use crate::window::Window;

field_list! {
    /// A user's action on a product: the fields of a record's value.
    ///
    /// The types do not enforce all rules; [`check`](ProductEvent::check) checks the others.
    struct ProductEvent<'a>;

    /// The fields of a [`ProductEvent`] that have no default.
    struct RequiredFields;

    required {
        event_id: Uuid, plain, "ID of the event, a UUID of any version.";
        event_timestamp: Timestamp, plain, "Time of the event with microsecond precision.";
        event_type: EventType, dictionary, "Action of the user.";
        user_id: i32, dictionary, range(min = 1), "ID of the user.";
        account_id: i32, dictionary, range(min = 1), "ID of the account of the user.";
        product_id: i32, dictionary, range(min = 1), "ID of the product.";
        category: Cow<'a, str>, dictionary, length(min = 1, max = 64), custom(function = no_control_characters), "Category of the product.";
        experiment_id: Cow<'a, str>, dictionary, length(min = 1, max = 64), custom(function = no_control_characters), "Experiment of the user.";
    }

    // New fields are added at the end: name: Type = default, encoding, rules, "description";
    defaulted {
    }
}

/// All fields, in the order of the columns.
pub const FIELDS: &[Field] = <ProductEvent<'static> as FieldList<'static>>::FIELDS;

/// Names of the fields in JSON, PostgreSQL and Parquet, in the order of the columns.
pub const FIELD_NAMES: &[&str] = &names::<{ FIELDS.len() }>();

const fn names<const N: usize>() -> [&'static str; N] {
    let mut names = [""; N];
    let mut place = 0;
    while place < N {
        names[place] = FIELDS[place].name;
        place += 1;
    }
    names
}
