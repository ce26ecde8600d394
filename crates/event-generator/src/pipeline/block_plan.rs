//! Division of a run into blocks.

use std::ops::Range;

use workload::EventRate;

use crate::clock::Pace;

/// Maximum number of events in a block: large enough to amortise the cost per block, small enough for the processor's
/// caches.
const MAX_BLOCK: u64 = 512;
/// Approximate maximum size of a block with padded events.
const BLOCK_BYTES: u64 = 1 << 20;
/// Time span of a block of a live run. Blocks are generated before they are due, so this is only the time ahead.
const LIVE_BLOCK_MICROS: u64 = 250_000;

/// Maps the number of a block to a range of indices. No range crosses the border of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPlan {
    size: u64,
    end: Option<u64>,
    /// Start of the first block.
    first: u64,
    segment_indices: u64,
}

impl BlockPlan {
    /// Creates the plan of a run with `end` events, or without an end.
    pub(super) fn new(pace: Pace, rate: EventRate, end: Option<u64>) -> Self {
        let size = match pace {
            Pace::Max => MAX_BLOCK,
            Pace::Live | Pace::Follow => rate.events_within(LIVE_BLOCK_MICROS).clamp(1, MAX_BLOCK),
        };
        Self { size, end, first: 0, segment_indices: u64::MAX }
    }

    /// Starts the plan at an index, with blocks that lie within one segment each.
    pub(super) fn in_segments(self, first: u64, segment_indices: u64) -> Self {
        Self { first, segment_indices: segment_indices.max(1), ..self }
    }

    /// Reduces the size of blocks for events with padding.
    pub(super) fn with_padding(self, bytes: u32) -> Self {
        let max = if bytes == 0 { MAX_BLOCK } else { BLOCK_BYTES / u64::from(bytes) };
        Self { size: self.size.min(max.max(1)), ..self }
    }

    /// Returns the indices of a block, or `None` after the last block.
    pub(super) fn block(&self, number: u64) -> Option<Range<u64>> {
        let per_segment = self.segment_indices.div_ceil(self.size);
        // Blocks of the first segment that end before the first index have no number.
        let number = number.saturating_add(self.first % self.segment_indices / self.size);
        let (segment, number) = (self.first / self.segment_indices + number / per_segment, number % per_segment);
        let base = segment.saturating_mul(self.segment_indices);
        let start = base.saturating_add(number * self.size);
        let end = start.saturating_add(self.size).min(base.saturating_add(self.segment_indices));
        let end = end.min(self.end.unwrap_or(workload::MAX_INDEX + 1));
        let start = start.max(self.first);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn blocks_cover_the_run_once() {
        for (pace, rate, count) in [
            (Pace::Max, "1/s", 10_000),
            (Pace::Live, "2500/s", 10_000),
            (Pace::Live, "0.5/s", 3),
            (Pace::Max, "1/s", 1),
        ] {
            let plan = BlockPlan::new(pace, rate.parse().unwrap(), Some(count));
            let mut next = 0;
            for range in (0..).map_while(|number| plan.block(number)) {
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn blocks_lie_in_their_segments_from_the_first_index_on() {
        let cases = [(0, 34_722), (69_444, 34_722), (0, 1), (7, 7), (8_192, 4_096), (12_345, 34_722), (70_000, 34_722)];
        for (first, segment) in cases.into_iter().chain([(34_721, 34_722), (512, 34_722), (100_000, 34_722)]) {
            let plan = BlockPlan::new(Pace::Max, "1/s".parse().unwrap(), Some(100_000)).in_segments(first, segment);
            let mut next = first;
            for range in (0..).map_while(|number| plan.block(number)) {
                assert_eq!(range.start, next);
                assert_eq!(range.start / segment, (range.end - 1) / segment);
                next = range.end;
            }
            assert_eq!(next, 100_000);
        }
    }

    #[test]
    fn slow_runs_have_blocks_of_one_event() {
        let plan = BlockPlan::new(Pace::Live, "3/h".parse().unwrap(), None);
        assert_eq!(plan.block(5), Some(5..6));
    }
}
