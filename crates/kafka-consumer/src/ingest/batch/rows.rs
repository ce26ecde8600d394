//! Encoded rows.

use event_model::ProductEvent;
use uuid::Uuid;

/// Rows in PostgreSQL's binary COPY format, without header and trailer.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    bytes: Vec<u8>,
    marks: Vec<RowMark>,
}

/// Identity of a row and the end of its bytes.
#[derive(Clone, Copy, Debug)]
struct RowMark {
    id: Uuid,
    offset: i64,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// `event_id` of the event.
    pub(crate) id: Uuid,
    /// Offset of the record.
    pub(crate) offset: i64,
    /// Encoded row.
    pub(crate) bytes: &'a [u8],
}

impl Rows {
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.marks.len() as u64
    }

    /// Iterates over the rows in offset order.
    #[must_use]
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.marks.len()).map(|index| self.row(index))
    }

    /// Returns the row at an index. Panics if there is none.
    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let RowMark { id, offset, end } = self.marks[index];
        let start = index.checked_sub(1).map_or(0, |before| self.marks[before].end);
        Row { id, offset, bytes: &self.bytes[start..end] }
    }

    /// Returns the number of rows whose offset is less than `offset`.
    #[must_use]
    pub(crate) fn before(&self, offset: i64) -> usize {
        self.marks.partition_point(|mark| mark.offset < offset)
    }

    /// Splits off the first `count` rows.
    #[must_use]
    pub(crate) fn take_first(&mut self, count: usize) -> Self {
        let end = count.checked_sub(1).map_or(0, |last| self.marks[last].end);
        let (rest, later) = (self.bytes.split_off(end), self.marks.split_off(count));
        let later = later.into_iter().map(|mark| RowMark { end: mark.end - end, ..mark }).collect();
        std::mem::replace(self, Self { bytes: rest, marks: later })
    }

    /// Adds a row. Returns its memory, in bytes.
    pub(crate) fn add(&mut self, offset: i64, event: &ProductEvent<'_>) -> usize {
        let start = self.bytes.len();
        event.write_copy_row(&mut self.bytes);
        let end = self.bytes.len();
        self.marks.push(RowMark { id: event.event_id, offset, end });
        end - start + size_of::<RowMark>()
    }

    /// Returns the memory of all rows, in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<RowMark>()
    }
}
