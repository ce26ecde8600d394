//! Prometheus' text format.

use std::fmt::{Display, Write};

use super::histogram::Histogram;
use super::metric::Metric;

/// Output buffer for metrics, provided by [`Registry::render`](super::Registry::render).
#[derive(Debug)]
pub struct Exposition(String);

impl Exposition {
    pub(super) const fn new() -> Self {
        Self(String::new())
    }

    /// Writes the `HELP` and `TYPE` lines of a metric. Call it before writing the samples.
    pub fn metric(&mut self, metric: &Metric) {
        let Metric { name, kind, help } = metric;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {}", kind.as_str()));
    }

    /// Writes a sample of a metric with labels.
    pub fn sample(&mut self, metric: &Metric, labels: &[(&str, &str)], value: impl Display) {
        self.line(format_args!("{}{} {value}", metric.name, Labels(labels)));
    }

    /// Writes a metric with a single sample.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.metric(metric);
        self.sample(metric, &[], value);
    }

    /// Writes a histogram with all its samples.
    pub fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        self.metric(metric);
        let name = metric.name;
        let (buckets, total) = histogram.cumulative();
        for (bound, count) in buckets {
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}"));
        self.line(format_args!("{name}_sum {}\n{name}_count {total}", histogram.sum()));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string in memory cannot fail.
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Metric = Metric::histogram("wait_seconds", "Wait.");
    const LETTERS: Metric = Metric::counter("letters_total", "Letters.");

    #[test]
    fn a_histogram_is_written_cumulatively() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for (value, times) in [(0.1, 2), (0.5, 1), (7.0, 3)] {
            histogram.observe(value, times);
        }
        let mut text = Exposition::new();
        text.histogram(&SECONDS, &histogram);
        let expected = "# HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n\
                        wait_seconds_bucket{le=\"0.1\"} 2\nwait_seconds_bucket{le=\"1\"} 3\n\
                        wait_seconds_bucket{le=\"+Inf\"} 6\nwait_seconds_sum 21.7\nwait_seconds_count 6\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::new();
        text.sample(&LETTERS, &[("reason", "a \"b\"\\\n"), ("stage", "x")], 3);
        assert_eq!(text.finish(), "letters_total{reason=\"a \\\"b\\\"\\\\\\n\",stage=\"x\"} 3\n");
    }
}
