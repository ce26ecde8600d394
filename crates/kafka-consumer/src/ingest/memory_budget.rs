//! Distribution of the memory limit.

use std::str::FromStr;

use pipeline_runtime::kafka::set_default;
use pipeline_runtime::units::{ByteSize, UnitError};
use rdkafka::config::ClientConfig;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Minimum limit: memory of the program before the first record, and room for the largest records.
const MINIMUM: ByteSize = ByteSize::from_mib(128);

/// Estimated memory of records, as a multiple of their compressed size in a fetch. Records compress to about a tenth,
/// and librdkafka's overhead per record more than doubles their size.
const UNFOLDED: usize = 24;

/// Memory limit of the process, and the shares derived from it.
///
/// A quarter goes to the records that librdkafka prefetches. It counts the bytes of keys and values only. Each record
/// takes about 400 bytes more, so the number of records is limited as well. The data of a fetch comes on top and
/// expands to many times its compressed size, so fetches are kept small.
///
/// Half goes to batches. Each writer can have one batch that is being filled, two that are queued, and two that are
/// sorted, one of which is being written. A sorted batch holds its rows twice.
///
/// The rest is for the program itself, its stacks and buffers, and the overhead of allocators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryBudget {
    limit: usize,
}

impl MemoryBudget {
    #[must_use]
    pub(crate) const fn limit(self) -> ByteSize {
        ByteSize::from_bytes(self.limit as u64)
    }

    /// Returns the maximum size of a batch, in bytes: each writer's share of the batch memory, from 64 KiB to 8 MiB.
    #[must_use]
    pub(crate) fn batch_bytes(self, writers: usize) -> usize {
        (self.limit / 2 / (7 * writers.max(1))).clamp(64 * KIB, 8 * MIB)
    }

    /// Returns the memory for each writer's filter of recent ids, in bytes.
    #[must_use]
    pub(crate) fn recent_ids(self, writers: usize) -> usize {
        self.limit / 32 / writers.max(1)
    }

    /// Limits librdkafka's prefetching, where the configuration does not set it. Each partition has its own queue, so
    /// the limits of queues are shared between the partitions.
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
