//! How the memory that the process may take is shared out.

use std::fmt;
use std::str::FromStr;

const MIB: u64 = 1 << 20;

/// The least that works: what is there before the first event, one segment, and a queue that is worth its name.
const LEAST: u64 = 128 * MIB;
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
pub struct MemoryLimit(u64);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(512 * MIB)
    }
}

impl MemoryLimit {
    /// librdkafka's `queue.buffering.max.messages`.
    #[must_use]
    pub const fn queue_messages(self) -> u64 {
        self.0 / 4 / RECORD_BYTES
    }

    /// librdkafka's `queue.buffering.max.kbytes`.
    #[must_use]
    pub const fn queue_kbytes(self) -> u64 {
        self.0 / 4 / 1024
    }

    /// How many segments of so many indices may be in hand at a time, 1 to 4.
    #[must_use]
    pub fn segments(self, indices: u64) -> usize {
        let fit = self.0 / 3 / indices.saturating_mul(SEGMENT_INDEX_BYTES).max(1);
        usize::try_from(fit.clamp(1, MOST_SEGMENTS)).unwrap_or(1)
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
        if bytes < LEAST {
            Err(format!("less than {} MiB, the least that works", LEAST / MIB))
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
        assert_eq!(MemoryLimit(LEAST).segments(500_000), 1);
    }
}
