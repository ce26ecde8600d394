//! The generator's metrics. docs/metrics.md describes them for users.

use std::ops::Range;
use std::sync::Arc;

use pipeline_runtime::metrics::{Exposition, Histogram, Metric, Registry};

use crate::manifest::Ledger;

/// Events of the run that were handed to the sinks, by outcome, including those before a kill.
pub const EVENTS: Metric = Metric::counter(
    "event_generator_events_made_total",
    "Events of the run that were handed to the sinks, by outcome.",
);
/// Records that all in-sync replicas have.
pub const RECORDS: Metric =
    Metric::counter("event_generator_records_acknowledged_total", "Records of the run that Kafka has acknowledged.");
/// Files in the lake, by kind.
pub const FILES: Metric =
    Metric::counter("event_generator_lake_files_written_total", "Files of the run in the lake, by kind.");
/// Rows of those files, by kind.
pub const ROWS: Metric =
    Metric::counter("event_generator_lake_rows_written_total", "Rows of the run in the lake, by kind.");
/// Seconds from when an event was due to when its record was handed to the Kafka client; not in a backfill.
pub const LATENESS: Metric = Metric::histogram(
    "event_generator_schedule_lateness_seconds",
    "Seconds from when an event was due to when it was handed over; none in a backfill.",
);
/// Seconds that the next event is overdue, in a run by the clock.
pub const BEHIND: Metric = Metric::gauge(
    "event_generator_schedule_behind_seconds",
    "Seconds that the next event is overdue; 0 in a backfill.",
);
/// 1 while `/readyz` returns 200, else 0.
pub const READY: Metric =
    Metric::gauge("event_generator_ready", "1 while events are delivered, 0 while /readyz returns 503.");
/// Always 1; its labels name the program and the run.
pub const BUILD: Metric =
    Metric::gauge("event_generator_build_info", "Always 1; the labels name the program and the run.");

/// All metrics of the generator.
pub const REGISTRY: Registry =
    Registry::new("event_generator_", &[EVENTS, RECORDS, FILES, ROWS, LATENESS, BEHIND, READY, BUILD]);

/// Upper bounds of [`LATENESS`], in seconds.
const LATENESS_BOUNDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Values of [`LATENESS`] whose quantiles the summary shows, in seconds: a microsecond to a year.
const LATENESS_RANGE: Range<f64> = 1e-6..3e7;

/// Returns the histogram of [`LATENESS`].
#[must_use]
pub fn lateness() -> Arc<Histogram> {
    Arc::new(Histogram::fine(LATENESS_BOUNDS, LATENESS_RANGE))
}

/// Values beside the run's counts.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Lateness of the events.
    pub lateness: &'a Histogram,
    /// In seconds.
    pub behind: f64,
    /// Readiness as `/readyz` reports it.
    pub ready: bool,
    /// In seconds since 1970.
    pub started: f64,
}

/// Renders the metrics in Prometheus' text format. Without a ledger the run has not begun.
#[must_use]
pub fn render(ledger: Option<&Ledger>, shown: Shown<'_>) -> String {
    REGISTRY.render(shown.started, |text| {
        if let Some(ledger) = ledger {
            of_run(text, ledger);
        }
        text.histogram(&LATENESS, shown.lateness);
        text.single(&BEHIND, shown.behind);
        text.single(&READY, u8::from(shown.ready));
        text.metric(&BUILD);
        let run = ledger.map_or("", |ledger| ledger.run.as_str());
        let labels = [("program", env!("CARGO_PKG_NAME")), ("version", env!("CARGO_PKG_VERSION")), ("run", run)];
        text.sample(&BUILD, &labels, 1);
    })
}

fn of_run(text: &mut Exposition, ledger: &Ledger) {
    let outcomes = ledger.tally.made().counts.outcomes;
    text.metric(&EVENTS);
    for (outcome, count) in [("valid", outcomes.valid), ("invalid", outcomes.invalid), ("corrupt", outcomes.corrupt)] {
        text.sample(&EVENTS, &[("outcome", outcome)], count);
    }
    if let Some((_, deliveries)) = &ledger.kafka {
        text.single(&RECORDS, deliveries.records());
    }
    if let Some((_, _, written)) = &ledger.lake {
        let files = written.files();
        let kinds = [("raw", files.raw), ("quarantine", files.quarantine)];
        text.metric(&FILES);
        for (kind, counts) in kinds {
            text.sample(&FILES, &[("kind", kind)], counts.files);
        }
        text.metric(&ROWS);
        for (kind, counts) in kinds {
            text.sample(&ROWS, &[("kind", kind)], counts.rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_program_and_unit_and_are_documented() {
        assert_eq!(REGISTRY.faults(include_str!("../../../docs/metrics.md")), Vec::<String>::new());
    }
}
