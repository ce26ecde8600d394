//! Rows of a batch in the order of the unique index, so that inserts hit adjacent index pages.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::ingest::batch::rows::{Row, Rows};

/// Rows of the first COPY, ordered by id: all but the likely duplicates.
#[derive(Debug)]
pub struct SortedRows {
    /// Encoded rows, concatenated for COPY.
    pub bytes: Bytes,
    count: u64,
}

struct Placed<'a> {
    id: Uuid,
    bytes: &'a [u8],
}

impl SortedRows {
    /// Sorts the rows of a batch's parts. Each part comes with the indices of its likely duplicates, in ascending
    /// order.
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
        // The rows of each partition are mostly in order: a stable sort detects such runs and merges them.
        rows.sort_by_key(|row| row.id);
        let mut bytes = BytesMut::with_capacity(rows.iter().map(|row| row.bytes.len()).sum());
        for row in &rows {
            bytes.extend_from_slice(row.bytes);
        }
        Self { bytes: bytes.freeze(), count: rows.len() as u64 }
    }

    /// Returns the number of rows.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}
