//! Divides the memory limit of the process.

use std::fmt;
use std::str::FromStr;

const MIB: u64 = 1 << 20;

/// Minimum limit: the memory before the first event, one segment and a queue of useful size.
const MIN_BYTES: u64 = 128 * MIB;
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
pub(crate) struct MemoryLimit(u64);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(512 * MIB)
    }
}

impl MemoryLimit {
    /// Returns librdkafka's `queue.buffering.max.messages`.
    pub(crate) const fn queue_messages(self) -> u64 {
        self.0 / 4 / RECORD_BYTES
    }

    /// Returns librdkafka's `queue.buffering.max.kbytes`.
    pub(crate) const fn queue_kbytes(self) -> u64 {
        self.0 / 4 / 1024
    }

    /// Returns the maximum number of segments in flight, 1 to 4, by the number of their indices.
    pub(crate) fn segments(self, indices: u64) -> usize {
        let fit = self.0 / 3 / indices.saturating_mul(SEGMENT_INDEX_BYTES).max(1);
        usize::try_from(fit.clamp(1, MAX_SEGMENTS)).unwrap_or(1)
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a number of bytes with a unit, such as 512MiB or 1GiB".to_owned();
        let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let factor = match &text[at..] {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => MIB,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let bytes = text[..at].parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
        if bytes < MIN_BYTES {
            Err(format!("less than {} MiB, the least that works", MIN_BYTES / MIB))
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(MIB) { write!(f, "{}MiB", self.0 / MIB) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_people_write_them() {
        let text = |text: &str| text.parse::<MemoryLimit>().map(|limit| limit.to_string());
        assert_eq!(text("512MiB"), Ok(MemoryLimit::default().to_string()));
        assert_eq!(text("1GiB"), Ok("1024MiB".to_owned()));
        for wrong in ["", "MiB", "512MB", "64MiB", "1.5GiB", "99999999999999GiB"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shared_out_fits() {
        let limit = MemoryLimit::default();
        assert_eq!([1, 34_722, 500_000].map(|indices| limit.segments(indices)), [4, 4, 2]);
        assert!((100_000..200_000).contains(&limit.queue_messages()), "{}", limit.queue_messages());
        assert_eq!(MemoryLimit(MIN_BYTES).segments(500_000), 1);
    }
}
