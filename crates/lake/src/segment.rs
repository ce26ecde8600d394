//! Segments: ranges of indices whose events share files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use event_model::{EventColumns, Hour, ProductEvent};

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::event_file::EventFileWriter;
use crate::keys::{RunId, quarantine_key, raw_key};
use crate::parquet_file::Encoded;
use crate::quarantine_file::{QuarantineFile, QuarantineRow};

/// Maximum size of a file of events in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Maximum event time that a file spans, in microseconds.
const SPAN_MICROS: u64 = 5 * 60 * 1_000_000;
/// Maximum number of indices per segment. More would only increase the memory of an open segment and the work lost when
/// the process is killed.
const MAX_INDICES: u64 = 500_000;
/// Maximum size of an uncompressed row in Parquet without its two free texts.
///
/// It consists of 36 bytes for the ID, 22 for the longest event type, 8 for the timestamp, 12 for integers, and 4 for
/// the length of each of the four texts. Pages and footer add less than the rest of the 128 bytes.
const ROW_BYTES: u64 = 128;

/// Returns the number of indices per segment, for a rate of `events` per `per_micros` microseconds.
///
/// With this number a file spans at most five minutes of event time, has at most 500,000 rows, and stays below
/// [`MAX_FILE_BYTES`] even if nothing can be compressed. The minimum is one. `text_bytes` is the length in UTF-8 of the run's longest category and longest experiment ID together (at most 512).
#[must_use]
pub fn segment_indices(events: u64, per_micros: u64, text_bytes: usize) -> u64 {
    let in_span = u128::from(SPAN_MICROS) * u128::from(events) / u128::from(per_micros.max(1));
    let in_file = MAX_FILE_BYTES / ROW_BYTES.saturating_add(text_bytes as u64);
    u64::try_from(in_span).unwrap_or(u64::MAX).min(in_file).clamp(1, MAX_INDICES)
}

/// A file to be written to the lake.
#[derive(Debug, Clone)]
pub struct LakeFile {
    /// Key within the lake.
    pub key: String,
    /// The Parquet file.
    pub bytes: Bytes,
    /// Content hash of the file.
    pub hash: ContentHash,
    /// Number of rows.
    pub rows: u64,
}

impl LakeFile {
    fn new(key: String, encoded: Encoded) -> Self {
        Self { key, bytes: encoded.bytes, hash: encoded.hash, rows: encoded.rows }
    }
}

/// Collects the events of one segment and encodes its files, one per hour.
///
/// Rows must be added in the order of their indices, because the order is part of the content.
pub struct SegmentBuilder {
    run: RunId,
    segment: u64,
    rows_expected: usize,
    raw: BTreeMap<Hour, EventColumns>,
    quarantine: BTreeMap<Hour, Vec<QuarantineRow>>,
}

/// The files of a segment.
#[derive(Debug, Default)]
pub struct SegmentFiles {
    /// Files of valid events.
    pub raw: Vec<LakeFile>,
    /// Files of rejected values.
    pub quarantine: Vec<LakeFile>,
}

impl SegmentBuilder {
    /// Creates an empty segment with capacity for `rows_expected` rows.
    #[must_use]
    pub fn new(run: RunId, segment: u64, rows_expected: usize) -> Self {
        Self { run, segment, rows_expected, raw: BTreeMap::new(), quarantine: BTreeMap::new() }
    }

    /// Adds a valid event to the file of its `event_timestamp`.
    #[inline]
    pub fn append(&mut self, event: &ProductEvent<'_>) {
        match self.raw.entry(event.event_timestamp.hour()) {
            Entry::Occupied(hour) => hour.into_mut().append(event),
            Entry::Vacant(hour) => hour.insert(EventColumns::with_capacity(self.rows_expected)).append(event),
        }
        // The first hour usually has nearly all rows. The columns of further hours grow on demand.
        self.rows_expected = 0;
    }

    /// Adds a rejected value to the file of its due time.
    pub fn append_rejected(&mut self, row: QuarantineRow) {
        self.quarantine.entry(row.due.hour()).or_default().push(row);
    }

    /// Returns true if the segment is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.quarantine.is_empty()
    }

    /// Encodes the files, each kind in the order of its keys.
    ///
    /// Performs no I/O and takes about half a microsecond per row.
    pub fn finish(self) -> Result<SegmentFiles, LakeError> {
        let mut files = SegmentFiles::default();
        for (hour, mut columns) in self.raw {
            let key = raw_key(hour, &self.run, self.segment);
            files.raw.push(LakeFile::new(key, EventFileWriter::encode(&columns.finish())?));
        }
        for (hour, rows) in self.quarantine {
            let key = quarantine_key(hour, &self.run, self.segment);
            files.quarantine.push(LakeFile::new(key, QuarantineFile::encode(&rows)?));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000;

    #[test]
    fn segments_span_five_minutes_at_most() {
        assert_eq!(segment_indices(10_000_000, DAY, 16), 34_722);
        assert_eq!(segment_indices(1, 1_000_000, 16), 300);
        assert_eq!(segment_indices(3, 3_600_000_000, 16), 1);
    }

    #[test]
    fn files_stay_small_at_any_rate() {
        assert_eq!(segment_indices(u64::MAX, 1, 0), MAX_INDICES);
        let widest = segment_indices(1_000_000_000, 1_000_000, 512);
        assert_eq!(widest, MAX_FILE_BYTES / 640);
        assert_eq!(segment_indices(0, 0, usize::MAX), 1);
    }
}
