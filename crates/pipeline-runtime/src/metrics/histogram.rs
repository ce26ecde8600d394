//! Histograms that several threads can update.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A histogram of non-negative values. Several threads may add values.
///
/// `/metrics` exposes the buckets that are given on creation. A [fine](Self::fine) histogram has additional buckets
/// between them for more accurate quantiles.
#[derive(Debug)]
pub struct Histogram {
    shown: &'static [f64],
    /// Ascending upper bounds of the buckets, including the exposed ones. The last bucket has no upper bound.
    bounds: Box<[f64]>,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    maximum: AtomicU64,
}

/// Ratio of adjacent bounds of a fine histogram.
const FINE_STEP: f64 = 1.04;

impl Histogram {
    /// Creates a histogram with a bucket for each upper bound, in ascending order, and one for larger values.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self::with_buckets(bounds, bounds.into())
    }

    /// Creates a histogram that exposes these bounds. Its quantiles are accurate to 4% within `range`.
    #[must_use]
    pub fn fine(bounds: &'static [f64], range: Range<f64>) -> Self {
        let steps = std::iter::successors(Some(range.start), |bound| Some(bound * FINE_STEP));
        let mut all: Vec<f64> = steps.take_while(|bound| *bound < range.end).chain(bounds.iter().copied()).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        Self::with_buckets(bounds, all.into())
    }

    fn with_buckets(shown: &'static [f64], bounds: Box<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { shown, bounds, counts, sum: AtomicU64::new(0), maximum: AtomicU64::new(0) }
    }

    /// Adds `value` `times` times.
    pub fn observe(&self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a sum for averages")]
        let more = value * times as f64;
        let add = |sum| Some((f64::from_bits(sum) + more).to_bits());
        // The closure always returns `Some`.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if value > self.maximum() {
            // Non-negative floating-point numbers are ordered like their bits.
            self.maximum.fetch_max(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Returns the number of values in each bucket.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Returns the sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    /// Returns the largest value, or 0 if there are none.
    #[must_use]
    pub fn maximum(&self) -> f64 {
        f64::from_bits(self.maximum.load(Ordering::Relaxed))
    }

    /// Returns the quantile for a share between 0 and 1, or `None` without values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let maximum = self.maximum();
        quantile(&self.bounds, &self.counts(), share, maximum).map(|value| value.min(maximum))
    }

    /// Returns the quantile of a subset of the values, given their number in each bucket.
    #[must_use]
    pub fn quantile_of(&self, counts: &[u64], share: f64) -> Option<f64> {
        quantile(&self.bounds, counts, share, self.bounds.last().copied().unwrap_or_default())
    }

    /// Returns the exposed bounds with their cumulative counts, and the total count.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64) {
        let counts = self.counts();
        let mut buckets = self.bounds.iter().zip(&counts);
        let mut total = 0;
        let up_to = |shown: &f64| {
            for (bound, count) in buckets.by_ref() {
                total += count;
                // The exposed bounds are a subset of the bounds, bit for bit.
                if bound.to_bits() == shown.to_bits() {
                    break;
                }
            }
            (*shown, total)
        };
        (self.shown.iter().map(up_to).collect(), counts.iter().sum())
    }
}

/// Estimates a quantile like Prometheus' `histogram_quantile`, assuming evenly distributed values within a bucket.
///
/// `end` is the upper bound of the last bucket.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn quantile(bounds: &[f64], counts: &[u64], share: f64, end: f64) -> Option<f64> {
    let wanted = counts.iter().sum::<u64>() as f64 * share;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= wanted {
            let low = bucket.checked_sub(1).map_or(0.0, |before| bounds[before]);
            let high = bounds.get(bucket).copied().unwrap_or(end);
            return Some(low + (high - low) * ((wanted - below) / count));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const BOUNDS: &[f64] = &[1.0, 2.0, 4.0];

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let histogram = Histogram::new(BOUNDS);
        let near = |share, counts: &[u64], expected: f64| {
            histogram.quantile_of(counts, share).is_some_and(|found| (found - expected).abs() < 1e-9)
        };
        assert!(near(0.5, &[0, 10, 0, 0], 1.5));
        assert!(near(0.99, &[90, 0, 10, 0], 3.8));
        assert!(near(0.99, &[0, 0, 0, 5], 4.0), "above the last bound all that is known is the bound");
        assert_eq!(histogram.quantile_of(&[0; 4], 0.5), None);
    }

    #[test]
    fn fine_buckets_give_quantiles_within_four_per_cent() {
        let histogram = Histogram::fine(BOUNDS, 1e-6..1e5);
        assert_eq!(histogram.quantile(0.99), None);
        for share in 1..=1_000 {
            // Ten orders of magnitude.
            histogram.observe(1e-5 * 10_f64.powf(f64::from(share) / 100.0), 1);
        }
        for share in [0.01, 0.5, 0.95, 0.99] {
            let (found, exact) = (histogram.quantile(share).unwrap(), 1e-5 * 10_f64.powf(share * 10.0));
            assert!((found / exact - 1.0).abs() < 0.04, "{share}: {found}, not {exact}");
        }
        assert!((histogram.maximum() - 1e5).abs() < 1.0, "{}", histogram.maximum());
    }

    #[test]
    fn the_largest_value_ends_the_last_bucket() {
        let histogram = Histogram::fine(BOUNDS, 1.0..10.0);
        histogram.observe(0.0, 1);
        assert_eq!(histogram.quantile(0.99), Some(0.0));
        histogram.observe(1e6, 99);
        let (last, maximum) = (histogram.quantile(0.99).unwrap(), histogram.maximum());
        assert!(last > 9.0 && last < maximum && (maximum - 1e6).abs() < 1.0, "{last}, {maximum}");
    }

    #[test]
    fn the_shown_bounds_are_exact() {
        let histogram = Histogram::fine(BOUNDS, 0.1..10.0);
        for value in [0.05, 1.0, 1.001, 2.0, 3.9, 4.1, 99.0] {
            histogram.observe(value, 2);
        }
        assert_eq!(histogram.cumulative(), (vec![(1.0, 4), (2.0, 8), (4.0, 10)], 14));
    }
}
