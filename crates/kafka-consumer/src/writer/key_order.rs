//! A batch's rows in the order of the unique index, which then takes them in side by side instead of here and there.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::batch::{Batch, Row};

/// Which rows go the short way in, in the order of their ids: all but those whose id was seen of late.
pub(super) struct KeyOrder<'a> {
    rows: Vec<Placed<'a>>,
}

struct Placed<'a> {
    id: Uuid,
    partition: i32,
    index: u32,
    bytes: &'a [u8],
}

impl<'a> KeyOrder<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let count = batch.parts.values().map(|part| part.rows.iter().len()).sum();
        let mut rows = Vec::with_capacity(count);
        for (&partition, part) in &batch.parts {
            let mut suspects = part.suspects.iter().peekable();
            for (index, Row { id, bytes, .. }) in part.rows.iter().enumerate() {
                if suspects.next_if(|suspect| **suspect == index).is_none() {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    rows.push(Placed { id, partition, index, bytes });
                }
            }
        }
        // Each partition's rows are mostly in order: a stable sort finds such runs and only merges them.
        rows.sort_by_key(|row| row.id);
        Self { rows }
    }

    /// The rows' bytes, one after the other.
    pub(super) fn bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.rows.iter().map(|row| row.bytes.len()).sum());
        for row in &self.rows {
            all.extend_from_slice(row.bytes);
        }
        all.freeze()
    }

    /// The partition of a row, counted from 1 in this order, and which of the partition's rows it is, counted from 0.
    pub(super) fn origin(&self, line: usize) -> Option<(i32, usize)> {
        let row = self.rows.get(line.checked_sub(1)?)?;
        Some((row.partition, row.index as usize))
    }
}
