//! How the memory that the process may take is shared out.

use pipeline_runtime::kafka::set_default;
use rdkafka::config::ClientConfig;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The least that works: what is there before the first record, and room for the largest records.
pub(crate) const LEAST: usize = 128 * MIB;

/// How many times as much memory records take as they do compressed in a fetch: they shrink to a tenth, and each takes
/// twice its own size more.
const UNFOLDED: usize = 24;

/// A limit for the whole process, in bytes, and what follows from it.
///
/// A quarter goes to what librdkafka has read ahead. It counts the bytes of keys and values only; each record takes
/// about 400 more, so the number of records is bounded as well. What a fetch brings comes on top, and unfolds to many
/// times its size when it is compressed: fetches are kept small. Half goes to batches: each writer can have one that is
/// being filled, two that wait, and two that are in order already and hold their rows twice, one of them on its way. The
/// rest is for the program itself, its stacks and buffers, and what allocators leave unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryBudget {
    limit: usize,
}

impl MemoryBudget {
    /// Shares out so many bytes; [`LEAST`] at least.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(LEAST) }
    }

    /// The limit, in bytes.
    #[must_use]
    pub(crate) const fn limit(self) -> usize {
        self.limit
    }

    /// Bytes that a batch may have where there are so many writers: 8 MiB at most.
    #[must_use]
    pub(crate) fn batch_bytes(self, writers: usize) -> usize {
        (self.limit / 2 / (7 * writers.max(1))).clamp(64 * KIB, 8 * MIB)
    }

    /// Bytes for the ids that each of so many writers remembers, to tell likely repeats.
    #[must_use]
    pub(crate) fn recent_ids(self, writers: usize) -> usize {
        self.limit / 32 / writers.max(1)
    }

    /// Bounds what librdkafka reads ahead of so many partitions, each in a queue of its own, where nobody has said otherwise.
    pub(crate) fn bound_queues(self, partitions: usize, config: &mut ClientConfig) {
        let share = |all: usize| (all / partitions.max(1)).max(1);
        let fetch = (self.limit / 128).clamp(MIB, 16 * MIB);
        let chunk = share(self.limit / 4 / UNFOLDED).clamp(32 * KIB, 256 * KIB);
        let bounds = [
            ("queued.min.messages", share(self.limit / 5 / KIB).min(1_000_000)),
            ("queued.max.messages.kbytes", share(self.limit / 8 / KIB)),
            ("fetch.max.bytes", fetch),
            ("fetch.message.max.bytes", chunk),
        ];
        for (property, value) in bounds {
            set_default(config, property, value.to_string());
        }
    }
}

/// A number of bytes, with a unit (KiB, MiB, GiB) or none.
pub(crate) fn parse(text: &str) -> Result<usize, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => KIB * MIB,
        _ => return Err("not a number of bytes, with a unit (KiB, MiB, GiB) or none, such as 256MiB".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "not a number of bytes, such as 256MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too many bytes".to_owned())
}

/// A memory limit.
pub(crate) fn parse_limit(text: &str) -> Result<MemoryBudget, String> {
    match parse(text)? {
        limit if limit < LEAST => Err(format!("less than {} MiB, the least that works", LEAST / MIB)),
        limit => Ok(MemoryBudget::new(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse("8388608"), Ok(8 * MIB));
        assert_eq!(parse("256MiB"), Ok(256 * MIB));
        assert_eq!(parse("2GiB"), Ok(2048 * MIB));
        for text in ["", "MiB", "1.5GiB", "256MB", "-1", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_limit("127MiB").is_err());
    }

    #[test]
    fn what_is_shared_out_fits() {
        for writers in [1, 2, 16] {
            let memory = MemoryBudget::new(256 * MIB);
            assert!(7 * writers * memory.batch_bytes(writers) <= memory.limit() / 2);
        }
        let mut config = ClientConfig::new();
        config.set("fetch.max.bytes", "7");
        MemoryBudget::new(256 * MIB).bound_queues(4, &mut config);
        assert_eq!(config.get("fetch.max.bytes"), Some("7"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("8192"));
    }
}
