//! How the memory that the process may take is shared out.

use std::fmt;
use std::str::FromStr;

use pipeline_runtime::units::{ByteSize, UnitError};

/// Minimum limit: what the program takes before the first event, one segment, and a queue that is worth its name.
const MINIMUM: ByteSize = ByteSize::from_mib(128);
/// What a record takes in librdkafka's queue: a usual event, its key, and what librdkafka and its headers add.
const RECORD_BYTES: u64 = 900;
/// What an index of a segment takes while the segment is made: its columns, and its part of the file.
const SEGMENT_INDEX_BYTES: u64 = 170;
/// Segments that are made and uploaded at a time, so many that the slower of the two does not wait for the other.
const MOST_SEGMENTS: u64 = 4;

/// A limit for the whole process, in bytes, and what follows from it.
///
/// A quarter goes to records that wait in librdkafka's queue, bounded by number and by bytes, since either may be the
/// larger; a third to segments on their way into the lake. The rest is for the program itself, batches that are being
/// sent, blocks of events that are ahead, and what allocators leave unused. When all of it is taken, making waits: nothing
/// is spooled to the disk, because any segment can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(ByteSize);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(ByteSize::from_mib(512))
    }
}

impl MemoryLimit {
    /// librdkafka's `queue.buffering.max.messages`.
    #[must_use]
    pub const fn queue_messages(self) -> u64 {
        self.0.get() / 4 / RECORD_BYTES
    }

    /// librdkafka's `queue.buffering.max.kbytes`.
    #[must_use]
    pub const fn queue_kbytes(self) -> u64 {
        self.0.get() / 4 / 1024
    }

    /// How many segments of so many indices may be in hand at a time, 1 to 4.
    #[must_use]
    pub fn segments(self, indices: u64) -> usize {
        let fit = self.0.get() / 3 / indices.saturating_mul(SEGMENT_INDEX_BYTES).max(1);
        usize::try_from(fit.clamp(1, MOST_SEGMENTS)).unwrap_or(1)
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
