//! Converts events to and from rows in PostgreSQL's binary COPY format (section "Binary Format" of the manual's page on
//! COPY).

use std::sync::LazyLock;

use crate::event::{FIELD_NAMES, ProductEvent};
use crate::field::FieldValue;
use crate::field_list::{FieldList, FieldSource, FieldWalker};

/// Header of the binary COPY format: the signature, no flags, no extension.
pub const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Trailer of the binary COPY format: a row of -1 fields.
pub const COPY_TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Column list of a COPY with rows of [`ProductEvent::write_copy_row`].
pub static COPY_COLUMNS: LazyLock<String> = LazyLock::new(|| FIELD_NAMES.join(", "));

impl ProductEvent<'_> {
    /// Appends the event as a row: the number of fields, then the length and the bytes of each field.
    #[inline]
    pub fn write_copy_row(&self, out: &mut Vec<u8>) {
        write_row(self, out);
    }
}

#[inline]
pub(crate) fn write_row<'a, E: FieldList<'a>>(event: &E, out: &mut Vec<u8>) {
    let fields = const {
        assert!(E::FIELDS.len() <= 1_600, "PostgreSQL's limit of columns");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        (E::FIELDS.len() as u16).to_be_bytes()
    };
    out.extend_from_slice(&fields);
    event.walk(&mut CopyRow(out));
}

struct CopyRow<'o>(&'o mut Vec<u8>);

impl FieldWalker for CopyRow<'_> {
    #[inline]
    fn field<'a, V: FieldValue<'a>>(&mut self, value: &V) {
        let value = value.to_binary();
        let value = value.as_ref();
        // A text of a checked event has at most 256 bytes. An unchecked text still fits PostgreSQL's limit of 1 GB.
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
    }
}

/// Reads a row written by [`ProductEvent::write_copy_row`]. Returns `None` if the bytes are not exactly one such row.
#[must_use]
pub fn read_copy_row(row: &[u8]) -> Option<ProductEvent<'_>> {
    read_row(row)
}

#[inline]
pub(crate) fn read_row<'a, E: FieldList<'a>>(row: &'a [u8]) -> Option<E> {
    let (number, fields) = row.split_first_chunk()?;
    let mut fields = Fields(fields);
    let event = E::from_source(&mut fields).ok()?;
    let whole = usize::from(u16::from_be_bytes(*number)) == E::FIELDS.len() && fields.0.is_empty();
    whole.then_some(event)
}

/// The remaining fields of a row.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(value)
    }
}

impl<'a> FieldSource<'a> for Fields<'a> {
    type Error = ();

    fn field<V: FieldValue<'a>>(&mut self, _default: Option<V>) -> Result<V, ()> {
        self.next().and_then(V::read_binary).ok_or(())
    }
}
