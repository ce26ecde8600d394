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
    origins: Vec<Origin>,
}

#[derive(Clone, Copy, Debug)]
struct Origin {
    partition: i32,
    index: u32,
}

struct Placed<'a> {
    id: Uuid,
    origin: Origin,
    bytes: &'a [u8],
}

impl KeyOrder {
    /// Puts a batch's parts in order.
    #[must_use]
    pub fn of(parts: &BTreeMap<i32, Part>) -> Self {
        let mut rows = Vec::with_capacity(parts.values().map(|part| part.rows.iter().len()).sum());
        for (&partition, part) in parts {
            let mut suspects = part.suspects.iter().peekable();
            for (index, Row { id, bytes, .. }) in part.rows.iter().enumerate() {
                if suspects.next_if(|suspect| **suspect == index).is_none() {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    rows.push(Placed { id, origin: Origin { partition, index }, bytes });
                }
            }
        }
        // Each partition's rows are mostly in order: a stable sort finds such runs and only merges them.
        rows.sort_by_key(|row| row.id);
        let mut bytes = BytesMut::with_capacity(rows.iter().map(|row| row.bytes.len()).sum());
        for row in &rows {
            bytes.extend_from_slice(row.bytes);
        }
        Self { bytes: bytes.freeze(), origins: rows.iter().map(|row| row.origin).collect() }
    }

    /// The partition of a row, counted from 1 in this order, and which of the partition's rows it is, counted from 0.
    #[must_use]
    pub fn origin(&self, line: usize) -> Option<(i32, usize)> {
        let Origin { partition, index } = *self.origins.get(line.checked_sub(1)?)?;
        Some((partition, index as usize))
    }
}
