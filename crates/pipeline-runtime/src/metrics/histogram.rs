//! Counts of values by size.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values by their size. May be added to from several threads.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, which ascend; what is above the last one is counted too.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Notes so many values of one size.
    pub fn observe(&self, value: f64, times: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(times, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a sum for averages")]
        let more = value * times as f64;
        let add = |sum| Some((f64::from_bits(sum) + more).to_bits());
        // The closure always has an answer.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many values there were of each size: one count for each bound, and one for what is above them.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// All values together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    /// The upper bounds.
    #[must_use]
    pub const fn bounds(&self) -> &'static [f64] {
        self.bounds
    }
}

/// The value that a share of all values does not exceed, between 0 and 1, as Prometheus' `histogram_quantile` has it:
/// values are taken to lie evenly between two bounds. None without values.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let wanted = counts.iter().sum::<u64>() as f64 * share;
    let mut below = 0.0;
    for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if below + count >= wanted {
            let low = place.checked_sub(1).map_or(0.0, |before| bounds[before]);
            let high = bounds.get(place).copied().unwrap_or(low);
            return Some(low + (high - low) * ((wanted - below) / count));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let bounds = [1.0, 2.0, 4.0];
        let near = |share, counts: &[u64], expected: f64| {
            quantile(&bounds, counts, share).is_some_and(|found| (found - expected).abs() < 1e-9)
        };
        assert!(near(0.5, &[0, 10, 0, 0], 1.5));
        assert!(near(0.99, &[90, 0, 10, 0], 3.8));
        assert!(near(0.99, &[0, 0, 0, 5], 4.0), "above the last bound all that is known is the bound");
        assert_eq!(quantile(&bounds, &[0; 4], 0.5), None);
    }
}
