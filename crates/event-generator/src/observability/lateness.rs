//! Histogram of the lateness of events.

use std::time::Duration;

/// Histogram of times in microseconds, accurate to 4%. It has two thousand buckets, independent of the number of events.
#[derive(Clone, Debug)]
pub(crate) struct Lateness {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// Number of buckets per power of two.
const STEPS: u32 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

impl Default for Lateness {
    fn default() -> Self {
        let counters = (u64::BITS - STEP_BITS + 1) * STEPS;
        Self { counts: vec![0; counters as usize], total: 0, max: 0 }
    }
}

impl Lateness {
    /// Records the lateness of an event in microseconds. A negative value counts as zero.
    pub(crate) fn record(&mut self, micros: i64) {
        let micros = u64::try_from(micros).unwrap_or(0);
        self.counts[counter(micros)] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// Returns a percentile, at most 4% too high. Zero without events.
    pub(crate) fn percentile(&self, per_cent: u64) -> Duration {
        let wanted = (self.total * per_cent).div_ceil(100);
        let mut seen = 0;
        for (counter, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(highest(counter).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// Returns the bucket of a number. Small numbers have a bucket each; larger powers of two are divided into equal steps.
fn counter(micros: u64) -> usize {
    let doubling = (u64::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = micros >> doubling;
    usize::try_from(u64::from(doubling * STEPS) + step).unwrap_or(usize::MAX)
}

/// Returns the maximum of a bucket.
fn highest(counter: usize) -> u64 {
    let counter = counter as u64;
    let steps = u64::from(STEPS);
    if counter < 2 * steps {
        return counter;
    }
    let doubling = counter / steps - 1;
    ((counter - doubling * steps + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_within_its_bucket() {
        for micros in (0..100_000).chain([1 << 40, (1 << 40) + 1, u64::MAX / 3]) {
            let counter = counter(micros);
            let high = highest(counter);
            assert!(micros <= high && high - micros <= micros / 25, "{micros}: {high}");
            assert!(counter == 0 || highest(counter - 1) < micros, "{micros}");
        }
    }

    #[test]
    fn percentiles_and_maximum() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.percentile(99), Duration::ZERO);
        for micros in 1..=1_000 {
            lateness.record(micros);
        }
        lateness.record(-5);
        let p50 = lateness.percentile(50).as_micros();
        let p99 = lateness.percentile(99).as_micros();
        assert!((500..=520).contains(&p50), "{p50}");
        assert!((989..=1_000).contains(&p99), "{p99}");
        assert_eq!(lateness.max().as_micros(), 1_000);
    }
}
