//! The event as a row of PostgreSQL's COPY in binary form ("Binary Format" on the manual's page of COPY).

use std::sync::LazyLock;

use crate::event::{FIELD_NAMES, FieldWalker, ProductEvent};
use crate::field::{FieldValue, POSTGRES_EPOCH_MICROS};
use crate::timestamp::Timestamp;

/// What a COPY in binary form begins with: signature, no flags, no extension.
pub const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What a COPY in binary form ends with: a row of -1 fields.
pub const COPY_TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The columns that a row of [`ProductEvent::write_copy_row`] has, as COPY's column list takes them.
pub static COPY_COLUMNS: LazyLock<String> = LazyLock::new(|| FIELD_NAMES.join(", "));

impl ProductEvent<'_> {
    /// Appends one row: the number of fields, then each field's length and bytes.
    #[inline]
    pub fn write_copy_row(&self, out: &mut Vec<u8>) {
        const FIELDS: [u8; 2] = {
            assert!(FIELD_NAMES.len() <= 1_600, "PostgreSQL's limit of columns");
            #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
            (FIELD_NAMES.len() as u16).to_be_bytes()
        };
        out.extend_from_slice(&FIELDS);
        self.walk(&mut CopyRow(out));
    }
}

struct CopyRow<'o>(&'o mut Vec<u8>);

impl FieldWalker for CopyRow<'_> {
    #[inline]
    fn field<'a, V: FieldValue<'a>>(&mut self, value: &V) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        value.write_binary(self.0);
        // A text of a checked event has at most 256 bytes; one that was not checked still fits PostgreSQL's 1 GB.
        let length = i32::try_from(self.0.len() - at - 4).unwrap_or(i32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// One row within what [`ProductEvent::write_copy_row`] has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRowRef<'a>(&'a [u8]);

/// Cuts what [`ProductEvent::write_copy_row`] has written into its rows. Ends early at bytes that are no such row.
pub fn copy_rows(mut bytes: &[u8]) -> impl Iterator<Item = CopyRowRef<'_>> {
    std::iter::from_fn(move || {
        let end = fields(bytes)?.last()?.end;
        let (row, rest) = bytes.split_at_checked(end)?;
        bytes = rest;
        Some(CopyRowRef(row))
    })
}

impl<'a> CopyRowRef<'a> {
    /// The row's bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The event's time.
    #[must_use]
    pub fn event_timestamp(self) -> Option<Timestamp> {
        let place = FIELD_NAMES.iter().position(|name| *name == "event_timestamp")?;
        let value = self.0.get(fields(self.0)?.nth(place)?)?;
        Some(Timestamp::from_micros(i64::from_be_bytes(value.try_into().ok()?).saturating_add(POSTGRES_EPOCH_MICROS)))
    }
}

/// Where the values of the first row stand.
fn fields(bytes: &[u8]) -> Option<impl Iterator<Item = std::ops::Range<usize>>> {
    let number = i16::from_be_bytes(*bytes.first_chunk()?);
    let mut at = 2;
    Some((0..number).map_while(move |_| {
        let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        let start = at + 4;
        at = start + usize::try_from(length).ok()?;
        Some(start..at)
    }))
}
