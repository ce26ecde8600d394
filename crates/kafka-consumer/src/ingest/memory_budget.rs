//! How the memory that the process may take is shared out.

use std::str::FromStr;

use pipeline_runtime::kafka::set_default;
use pipeline_runtime::units::{ByteSize, UnitError};
use rdkafka::config::ClientConfig;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Minimum limit: what the program takes before the first record, and room for the largest records.
const MINIMUM: ByteSize = ByteSize::from_mib(128);

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
    /// Returns the limit.
    #[must_use]
    pub(crate) const fn limit(self) -> ByteSize {
        ByteSize::from_bytes(self.limit as u64)
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

impl FromStr for MemoryBudget {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        ByteSize::within(MINIMUM..)(text).map(|limit| Self { limit: limit.to_usize() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_limit_has_a_minimum() {
        assert!("128MiB".parse::<MemoryBudget>().is_ok_and(|memory| memory.limit() == MINIMUM));
        let error = "127MiB".parse::<MemoryBudget>().unwrap_err().to_string();
        assert!(error.ends_with("use at least 128MiB"), "{error}");
    }

    #[test]
    fn what_is_shared_out_fits() {
        let memory: MemoryBudget = "256MiB".parse().unwrap();
        for writers in [1, 2, 16] {
            assert!(7 * writers * memory.batch_bytes(writers) <= 128 * MIB);
        }
        let mut config = ClientConfig::new();
        config.set("fetch.max.bytes", "7");
        memory.bound_queues(4, &mut config);
        assert_eq!(config.get("fetch.max.bytes"), Some("7"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("8192"));
    }
}
