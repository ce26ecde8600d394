//! A batch's rows in the order of the unique index, which then takes them in side by side instead of here and there.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::batch::Part;
use crate::rows::Row;

/// The rows that go the short way in, in the order of their ids: all but those whose id was seen of late.
#[derive(Debug)]
pub struct KeyOrder {
    /// The rows' bytes, one after the other, as COPY takes them.
    pub bytes: Bytes,
    count: u64,
}

struct Placed<'a> {
    id: Uuid,
    bytes: &'a [u8],
}

impl KeyOrder {
    /// Puts a batch's parts in order.
    #[must_use]
    pub fn of(parts: &BTreeMap<i32, Part>) -> Self {
        let mut rows = Vec::with_capacity(parts.values().map(|part| part.rows.iter().len()).sum());
        for part in parts.values() {
            let mut suspects = part.suspects.iter().peekable();
            for (index, Row { id, bytes, .. }) in part.rows.iter().enumerate() {
                if suspects.next_if(|suspect| **suspect == index).is_none() {
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
    pub fn count(&self) -> u64 {
        self.count
    }
}
