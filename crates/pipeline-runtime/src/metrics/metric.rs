//! Definitions of metrics.

/// Definition of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name with the program's prefix. Ends with the unit, or with `_total` for a counter.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: Kind,
    /// Description in one line.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that only increases, starting at 0 when the process starts.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// Counts of values in buckets.
    Histogram,
}

impl Metric {
    /// Returns a counter.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help }
    }

    /// Returns a gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help }
    }

    /// Returns a histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help }
    }
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
