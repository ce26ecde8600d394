//! Divides the memory limit of the process.

use std::fmt;
use std::str::FromStr;

use pipeline_runtime::units::{ByteSize, UnitError};

/// Minimum limit: the memory before the first event, one segment and a queue of useful size.
const MINIMUM: ByteSize = ByteSize::from_mib(128);
/// Memory of a record in librdkafka's queue: an average event, its key, its headers and librdkafka's overhead.
const RECORD_BYTES: u64 = 900;
/// Memory per index of a segment in flight: its columns and its part of the file.
const SEGMENT_INDEX_BYTES: u64 = 170;
/// Maximum number of segments in flight, enough to overlap encoding and uploads.
const MAX_SEGMENTS: u64 = 4;

/// Memory limit of the process in bytes.
///
/// A quarter is for records in librdkafka's queue, bounded by number and by bytes, since either may be reached first; a
/// third is for segments in flight to the lake. The rest is for the program, batches in flight, blocks ahead of the
/// dispatcher and unused memory of allocators. At the limit generation waits. Nothing is spooled to disk, because any
/// segment can be generated again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimit(ByteSize);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(ByteSize::from_mib(512))
    }
}

impl MemoryLimit {
    /// Returns librdkafka's `queue.buffering.max.messages`.
    pub(crate) const fn queue_messages(self) -> u64 {
        self.0.get() / 4 / RECORD_BYTES
    }

    /// Returns librdkafka's `queue.buffering.max.kbytes`.
    pub(crate) const fn queue_kbytes(self) -> u64 {
        self.0.get() / 4 / 1024
    }

    /// Returns the maximum number of segments in flight, 1 to 4, by the number of their indices.
    pub(crate) fn segments(self, indices: u64) -> usize {
        let fit = self.0.get() / 3 / indices.saturating_mul(SEGMENT_INDEX_BYTES).max(1);
        usize::try_from(fit.clamp(1, MAX_SEGMENTS)).unwrap_or(1)
    }
}

impl FromStr for MemoryLimit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        ByteSize::within(MINIMUM..)(text).map(Self)
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_has_a_minimum() {
        let text = |text: &str| text.parse::<MemoryLimit>().map(|limit| limit.to_string());
        assert_eq!(text("512MiB"), Ok(MemoryLimit::default().to_string()));
        assert_eq!(text("1024MiB"), Ok("1GiB".to_owned()));
        assert!(text("127MiB").is_err_and(|error| error.to_string().ends_with("use at least 128MiB")));
    }

    #[test]
    fn what_is_shared_out_fits() {
        let limit = MemoryLimit::default();
        assert_eq!([1, 34_722, 500_000].map(|indices| limit.segments(indices)), [4, 4, 2]);
        assert!((100_000..200_000).contains(&limit.queue_messages()), "{}", limit.queue_messages());
        assert_eq!(MemoryLimit(MINIMUM).segments(500_000), 1);
    }
}
