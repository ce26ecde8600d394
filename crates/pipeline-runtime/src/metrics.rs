//! Numbers for Prometheus: what they are called, how they are counted and how they are written down.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// The media type of [`Exposition`]: Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric as it is shown: its name with the unit, its kind and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, which ends with the unit, or `_total` for a counter.
    pub name: &'static str,
    /// How its value moves.
    pub kind: Kind,
    /// What it tells, in one line.
    pub help: &'static str,
}

/// How the value of a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts of values by their size.
    Histogram,
}

impl Metric {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    /// A histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help }
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

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

/// Metrics in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric: its samples follow.
    pub fn metric(&mut self, metric: &Metric) {
        let Metric { name, kind, help } = metric;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {}", kind.as_str()));
    }

    /// A sample of a metric, under labels.
    pub fn sample(&mut self, metric: &Metric, labels: &[(&str, &str)], value: impl Display) {
        self.line(format_args!("{}{} {value}", metric.name, Labels(labels)));
    }

    /// A metric with a single sample.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.metric(metric);
        self.sample(metric, &[], value);
    }

    /// A histogram, whole.
    pub fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        self.metric(metric);
        let name = metric.name;
        let mut total = 0;
        let ends = histogram.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(histogram.counts()) {
            total += count;
            self.line(format_args!("{name}_bucket{{le=\"{end}\"}} {total}"));
        }
        self.line(format_args!("{name}_sum {}\n{name}_count {total}", histogram.sum()));
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a text in memory does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{}{name}=\"{value}\"", if place == 0 { '{' } else { ',' })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { "}" })
    }
}

/// The memory of this process that is in RAM, in bytes; none where the system does not tell.
#[must_use]
pub fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Metric = Metric::histogram("wait_seconds", "How long.");
    const LETTERS: Metric = Metric::counter("letters_total", "How many.");

    #[test]
    fn a_histogram_is_written_cumulatively() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for (value, times) in [(0.1, 2), (0.5, 1), (7.0, 3)] {
            histogram.observe(value, times);
        }
        let mut text = Exposition::default();
        text.histogram(&SECONDS, &histogram);
        let expected = "# HELP wait_seconds How long.\n# TYPE wait_seconds histogram\n\
                        wait_seconds_bucket{le=\"0.1\"} 2\nwait_seconds_bucket{le=\"1\"} 3\n\
                        wait_seconds_bucket{le=\"+Inf\"} 6\nwait_seconds_sum 21.7\nwait_seconds_count 6\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.sample(&LETTERS, &[("reason", "a \"b\"\\\n"), ("stage", "x")], 3);
        assert_eq!(text.finish(), "letters_total{reason=\"a \\\"b\\\"\\\\\\n\",stage=\"x\"} 3\n");
    }

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

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        assert!(resident_memory_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
