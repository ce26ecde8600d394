//! Metrics: names, kinds and meanings.

/// A metric: its name, which carries program and unit, its kind and its meaning.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name with the program's prefix, which ends with the unit, or with `_total` for a counter.
    pub name: &'static str,
    /// Movement of the value.
    pub kind: Kind,
    /// Meaning in one line.
    pub help: &'static str,
}

/// The movement of a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts of values by size.
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
