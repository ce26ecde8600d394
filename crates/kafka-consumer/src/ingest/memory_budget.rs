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

/// The same multiple for repetitive records. Chunks above [`SMALLEST_CHUNK`] leave room for them.
const UNFOLDED_REPETITIVE: usize = 160;

/// Smallest part of a fetch that belongs to one partition. A smaller one would often end within a record batch, which
/// Kafka then omits.
const SMALLEST_CHUNK: usize = 32 * KIB;

/// Memory of a partition without records: its state in the Kafka clients and in the program.
const PARTITION: usize = 24 * KIB;

/// Queues in which librdkafka delivers the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartitionQueues {
    /// Each partition has its own queue, so the source can read the partitions in step. librdkafka's limits hold for
    /// each queue, and a fetch of each partition can be in memory.
    Separate,
    /// All partitions share the client's main queue, in the order of the fetches. librdkafka's limits hold for all of
    /// them together: it stops fetching while the queue is full.
    Shared,
}

/// Memory limit of the process, and the shares derived from it.
///
/// A quarter goes to the records that librdkafka prefetches. It counts the bytes of keys and values only. Each record
/// takes about 400 bytes more, so the number of records is limited as well. The data of a fetch comes on top and
/// expands to many times its compressed size, so fetches are kept small.
///
/// A third goes to batches. Each writer can have one batch that is being filled, two that are queued, and two that are
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

    /// Returns the minimum limit for this number of partitions, or `None` if the present limit is sufficient.
    pub(crate) fn too_small_for(self, partitions: usize) -> Option<ByteSize> {
        let needed = (MINIMUM.to_usize() + partitions * PARTITION) / MIB;
        (self.limit < needed * MIB).then(|| ByteSize::from_mib(needed as u64))
    }

    /// Returns the maximum size of a batch, in bytes: each writer's share of the batch memory, from 64 KiB to 8 MiB.
    #[must_use]
    pub(crate) fn batch_bytes(self, writers: usize) -> usize {
        (self.limit / 3 / (7 * writers.max(1))).clamp(64 * KIB, 8 * MIB)
    }

    /// Returns the memory for each writer's filter of recent ids, in bytes.
    #[must_use]
    pub(crate) fn recent_ids(self, writers: usize) -> usize {
        self.limit / 32 / writers.max(1)
    }

    /// Returns the queues for a topic: separate ones if a fetch of each partition fits into the memory of prefetched
    /// records.
    #[must_use]
    pub(crate) fn queues(self, partitions: usize) -> PartitionQueues {
        if partitions * SMALLEST_CHUNK * UNFOLDED <= self.limit / 4 {
            PartitionQueues::Separate
        } else {
            PartitionQueues::Shared
        }
    }

    /// Limits librdkafka's prefetching, where the configuration does not set it. The limits of separate queues are
    /// shared between the partitions. A shared queue has a fetch from each broker on top.
    pub(crate) fn bound_queues(self, partitions: usize, brokers: usize, config: &mut ClientConfig) {
        let (queues, fetch, chunk) = match self.queues(partitions) {
            PartitionQueues::Separate => {
                let chunk = self.limit / 4 / UNFOLDED_REPETITIVE / partitions.max(1);
                let fetch = (self.limit / 128).clamp(MIB, 16 * MIB);
                (partitions.max(1), fetch, chunk.clamp(SMALLEST_CHUNK, 256 * KIB))
            }
            PartitionQueues::Shared => {
                // Small, because repetitive records expand to ten times `UNFOLDED`: half of the limit.
                let fetch = (self.limit / 512 / brokers.max(1)).clamp(4 * SMALLEST_CHUNK, 16 * MIB);
                (1, fetch, (fetch / 8).max(SMALLEST_CHUNK))
            }
        };
        let share = |all: usize| (all / queues).max(1);
        let bounds = [
            ("queued.min.messages", share(self.limit / 5 / KIB).min(1_000_000)),
            ("queued.max.messages.kbytes", share(self.limit / 8 / KIB)),
            ("fetch.max.bytes", fetch),
            ("fetch.message.max.bytes", chunk),
            // librdkafka requires that a fetch is not smaller. Brokers return larger records nevertheless.
            ("message.max.bytes", fetch.min(1_000_000)),
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
            assert!(7 * writers * memory.batch_bytes(writers) <= 86 * MIB);
        }
        let mut config = ClientConfig::new();
        config.set("fetch.max.bytes", "7");
        memory.bound_queues(4, 1, &mut config);
        assert_eq!(config.get("fetch.max.bytes"), Some("7"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("8192"));
    }

    /// Returns the memory of prefetched records in the worst case: full queues, and a fetch that exceeds them.
    fn prefetched(memory: MemoryBudget, partitions: usize, brokers: usize) -> usize {
        let mut config = ClientConfig::new();
        memory.bound_queues(partitions, brokers, &mut config);
        let number = |property: &str| config.get(property).unwrap().parse::<usize>().unwrap();
        let queue = number("queued.max.messages.kbytes") * KIB;
        let [fetch, chunk] = [number("fetch.max.bytes"), number("fetch.message.max.bytes")];
        match memory.queues(partitions) {
            PartitionQueues::Separate => partitions * (queue + chunk * UNFOLDED),
            PartitionQueues::Shared => queue + brokers * fetch * UNFOLDED,
        }
    }

    #[test]
    fn prefetched_records_fit_for_any_number_of_partitions() {
        for limit in ["128MiB", "256MiB", "1GiB", "8GiB"] {
            let memory: MemoryBudget = limit.parse().unwrap();
            for (partitions, brokers) in [(1, 1), (6, 3), (60, 3), (300, 1), (500, 4), (2_000, 4), (10_000, 4)] {
                let prefetched = prefetched(memory, partitions, brokers);
                let share = memory.limit().to_usize() * 3 / 8;
                assert!(prefetched <= share, "{prefetched} for {partitions} of {brokers} within {limit}");
            }
        }
    }

    #[test]
    fn few_partitions_leave_room_for_repetitive_records() {
        let memory: MemoryBudget = "256MiB".parse().unwrap();
        let chunk = |partitions: usize| {
            let mut config = ClientConfig::new();
            memory.bound_queues(partitions, 1, &mut config);
            config.get("fetch.message.max.bytes").unwrap().parse::<usize>().unwrap()
        };
        assert!((2..=12).all(|partitions| partitions * chunk(partitions) * UNFOLDED_REPETITIVE <= 64 * MIB));
        assert_eq!([1, 6, 12, 13, 85].map(|partitions| chunk(partitions) / KIB), [256, 68, 34, 32, 32]);
    }

    #[test]
    fn many_partitions_share_a_queue() {
        use PartitionQueues::{Separate, Shared};
        let memory: MemoryBudget = "256MiB".parse().unwrap();
        let queues = [6, 60, 85, 86, 500].map(|partitions| memory.queues(partitions));
        assert_eq!(queues, [Separate, Separate, Separate, Shared, Shared]);
    }

    #[test]
    fn the_minimum_grows_with_the_partitions() {
        let memory: MemoryBudget = "128MiB".parse().unwrap();
        assert_eq!(memory.too_small_for(6), None);
        let needed = memory.too_small_for(2_000).unwrap();
        assert_eq!(needed.to_string(), "174MiB");
        assert_eq!("174MiB".parse::<MemoryBudget>().unwrap().too_small_for(2_000), None);
    }
}
