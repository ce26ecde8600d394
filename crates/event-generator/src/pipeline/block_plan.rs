//! When events are made and sent.

use std::ops::Range;
use std::time::{Instant, SystemTime};

use event_model::Timestamp;
use workload::EventRate;

/// How the sending of events relates to the time at which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Not before it. What is late is sent at once and shifts nothing: the schedule is open loop.
    Live,
    /// As fast as the sinks take it.
    Max,
    /// As fast as the sinks take it until the schedule has reached the present, then [`Pace::Live`].
    ThenLive,
}

/// The time of day, read once at the start and counted on by a clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: i64,
}

impl Clock {
    /// Reads the time of day.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Self { started: Instant::now(), started_at }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros())
    }

    /// Now, in microseconds since the epoch.
    #[must_use]
    pub fn micros(&self) -> i64 {
        self.started_at.saturating_add(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// When it was read first.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_micros(self.started_at)
    }
}

/// How a run is cut into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    size: u64,
    end: Option<u64>,
    /// Where the first block begins, and a multiple of which no block lies across.
    first: u64,
    segment: u64,
}

/// Large enough that what is done once for a block costs nothing, small enough for the processor's cache.
const MAX_BLOCK: u64 = 512;
const BLOCK_BYTES: u64 = 1 << 20;
/// Blocks are made before they are due, so this is only how far ahead.
const LIVE_BLOCK_MICROS: u64 = 250_000;

impl Cut {
    /// For so many events in all, none for no end.
    #[must_use]
    pub fn new(pace: Pace, rate: EventRate, end: Option<u64>) -> Self {
        let size = match pace {
            Pace::Max => MAX_BLOCK,
            Pace::Live | Pace::ThenLive => rate.events_within(LIVE_BLOCK_MICROS).clamp(1, MAX_BLOCK),
        };
        Self { size, end, first: 0, segment: u64::MAX }
    }

    /// The same from an index on, in blocks that each lie in one segment of so many indices. `first` begins a segment, or
    /// is the end.
    #[must_use]
    pub fn in_segments(self, first: u64, segment: u64) -> Self {
        Self { first, segment: segment.max(1), ..self }
    }

    /// The same in smaller blocks, for records of so many bytes more than usual.
    #[must_use]
    pub fn for_larger(self, bytes: u32) -> Self {
        let most = if bytes == 0 { MAX_BLOCK } else { BLOCK_BYTES / u64::from(bytes) };
        Self { size: self.size.min(most.max(1)), ..self }
    }

    /// The indices of a block; none after the last.
    #[must_use]
    pub fn block(&self, number: u64) -> Option<Range<u64>> {
        let in_segment = self.segment.div_ceil(self.size);
        let (segment, number) = (self.first / self.segment + number / in_segment, number % in_segment);
        let base = segment.saturating_mul(self.segment);
        let start = base.saturating_add(number * self.size);
        let end = start.saturating_add(self.size).min(base.saturating_add(self.segment));
        let end = end.min(self.end.unwrap_or(workload::MAX_INDEX + 1));
        let start = start.max(self.first);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[test]
    fn blocks_cover_the_run_once() {
        for (pace, rate, count) in [
            (Pace::Max, "1/s", 10_000),
            (Pace::Live, "2500/s", 10_000),
            (Pace::Live, "0.5/s", 3),
            (Pace::Max, "1/s", 1),
        ] {
            let cut = Cut::new(pace, rate.parse().unwrap(), Some(count));
            let mut next = 0;
            for range in (0..).map_while(|number| cut.block(number)) {
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn blocks_lie_in_their_segments_and_begin_where_they_are_told() {
        for (first, segment) in [(0, 34_722), (69_444, 34_722), (0, 1), (7, 7), (8_192, 4_096)] {
            let cut = Cut::new(Pace::Max, "1/s".parse().unwrap(), Some(100_000)).in_segments(first, segment);
            let mut next = first;
            for range in (0..).map_while(|number| cut.block(number)) {
                assert_eq!(range.start, next);
                assert_eq!(range.start / segment, (range.end - 1) / segment);
                next = range.end;
            }
            assert_eq!(next, 100_000);
        }
    }

    #[test]
    fn slow_runs_are_made_one_by_one() {
        let cut = Cut::new(Pace::Live, "3/h".parse().unwrap(), None);
        assert_eq!(cut.block(5), Some(5..6));
    }

    #[test]
    fn the_clock_goes_on() {
        let clock = Clock::start();
        let before = clock.micros();
        assert!(clock.micros() >= before);
        assert!(clock.started_at() <= clock.now());
    }
}
