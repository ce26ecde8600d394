//! A batch's rows in the order of the unique index, which then takes them in side by side instead of here and there.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::ingest::batch::rows::{Row, Rows};

/// The rows that go the short way in, in the order of their ids: all but those whose id was seen of late.
#[derive(Debug)]
pub struct SortedRows {
    /// The rows' bytes, one after the other, as COPY takes them.
    pub bytes: Bytes,
    count: u64,
}

struct Placed<'a> {
    id: Uuid,
    bytes: &'a [u8],
}

impl SortedRows {
    /// Sorts the rows of a batch's parts. Each part comes with the indices of its likely duplicates, in their order.
    #[must_use]
    pub(crate) fn of<'a>(parts: impl Iterator<Item = (&'a Rows, &'a [usize])> + Clone) -> Self {
        let mut rows = Vec::with_capacity(parts.clone().map(|(rows, _)| rows.iter().len()).sum());
        for (part, likely_duplicates) in parts {
            let mut likely_duplicates = likely_duplicates.iter().peekable();
            for (index, Row { id, bytes, .. }) in part.iter().enumerate() {
                if likely_duplicates.next_if(|mark_likely_duplicates| **mark_likely_duplicates == index).is_none() {
                    rows.push(Placed { id, bytes });
                }
            }
        }
        // Each partition's rows are mostly in order: a stable sort finds such runs and only merges them.
        rows.sort_by_key(|row| row.id);
        let mut bytes = BytesMut::with_capacity(rows.iter().map(|row| row.bytes.len()).sum());
        for row in &rows {
            bytes.extend_from_slice(row.bytes);
        }
        Self { bytes: bytes.freeze(), count: rows.len() as u64 }
    }

    /// Number of rows.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}
