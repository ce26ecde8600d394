//! Result of one run of a candidate.

use std::time::Duration;

use crate::usage::Usage;

/// Result for a candidate that processed `items` events or rows.
pub(crate) struct Run {
    pub(crate) items: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu_seconds: f64,
    /// CPU time of the server that the candidate writes to.
    pub(crate) server_cpu_seconds: f64,
    pub(crate) peak_memory_kib: u64,
}

impl Run {
    pub(crate) fn of(items: u64, usage: &Usage) -> Self {
        let Usage { elapsed, cpu_seconds, peak_memory_kib, .. } = *usage;
        Self { items, elapsed, cpu_seconds, server_cpu_seconds: 0.0, peak_memory_kib }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn per_second(&self) -> f64 {
        self.items as f64 / self.elapsed.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn micros_an_item(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.items as f64
    }
}
