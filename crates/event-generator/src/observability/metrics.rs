//! Metrics of the generator. docs/metrics.md describes them for users.

use std::ops::Range;
use std::sync::Arc;

use pipeline_runtime::metrics::{Exposition, Histogram, Metric, Registry};

use super::run_stats::RunStats;

/// Events of the run that were handed to the sinks, by outcome, including those before a kill.
const EVENTS: Metric =
    Metric::counter("event_generator_events_made_total", "Events of the run passed to the sinks, by outcome.");
/// Records acknowledged by all in-sync replicas.
const RECORDS: Metric =
    Metric::counter("event_generator_records_acknowledged_total", "Records of the run acknowledged by Kafka.");
/// Files in the lake, by kind.
const FILES: Metric =
    Metric::counter("event_generator_lake_files_written_total", "Files of the run in the lake, by kind.");
/// Rows of the files in the lake, by kind.
const ROWS: Metric =
    Metric::counter("event_generator_lake_rows_written_total", "Rows of the run in the lake, by kind.");
/// Seconds from the due time of an event until its record was handed to the Kafka client; not in a backfill.
const LATENESS: Metric = Metric::histogram(
    "event_generator_schedule_lateness_seconds",
    "Seconds from the due time of an event to its handover to the sinks; empty in a backfill.",
);
/// Seconds by which the next event of a live run is overdue.
const BEHIND: Metric = Metric::gauge(
    "event_generator_schedule_behind_seconds",
    "Seconds by which the next event is overdue; 0 in a backfill.",
);
/// 1 while `/readyz` returns 200, else 0.
const READY: Metric =
    Metric::gauge("event_generator_ready", "1 while events are delivered, 0 while /readyz returns 503.");
/// Always 1; its labels name the program and the run.
const BUILD: Metric = Metric::gauge("event_generator_build_info", "Always 1; labels identify the program and the run.");

/// All metrics of the generator.
const REGISTRY: Registry =
    Registry::new("event_generator_", &[EVENTS, RECORDS, FILES, ROWS, LATENESS, BEHIND, READY, BUILD]);

/// Upper bounds of [`LATENESS`], in seconds.
const LATENESS_BOUNDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Values of [`LATENESS`] whose quantiles the summary shows, in seconds: a microsecond to a year.
const LATENESS_RANGE: Range<f64> = 1e-6..3e7;

/// Returns the histogram of [`LATENESS`].
pub(super) fn lateness() -> Arc<Histogram> {
    Arc::new(Histogram::fine(LATENESS_BOUNDS, LATENESS_RANGE))
}

/// Metrics of the process, beside the counts of its run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessMetrics<'a> {
    pub(super) lateness: &'a Histogram,
    /// In seconds.
    pub(super) behind: f64,
    /// True while `/readyz` returns 200.
    pub(super) ready: bool,
    /// In seconds since 1970.
    pub(super) started: f64,
}

/// Returns all metrics in Prometheus' text format. Before the run starts there are no `stats`.
pub(super) fn render(stats: Option<&RunStats>, process: ProcessMetrics<'_>) -> String {
    REGISTRY.render(process.started, |text| {
        if let Some(stats) = stats {
            render_run(text, stats);
        }
        text.histogram(&LATENESS, process.lateness);
        text.single(&BEHIND, process.behind);
        text.single(&READY, u8::from(process.ready));
        text.metric(&BUILD);
        let run = stats.map_or("", |stats| stats.run.as_str());
        let labels = [("program", env!("CARGO_PKG_NAME")), ("version", env!("CARGO_PKG_VERSION")), ("run", run)];
        text.sample(&BUILD, &labels, 1);
    })
}

fn render_run(text: &mut Exposition, stats: &RunStats) {
    let outcomes = stats.counts.sent().counts.outcomes;
    text.metric(&EVENTS);
    for (outcome, count) in [("valid", outcomes.valid), ("invalid", outcomes.invalid), ("corrupt", outcomes.corrupt)] {
        text.sample(&EVENTS, &[("outcome", outcome)], count);
    }
    if let Some(kafka) = &stats.kafka {
        text.single(&RECORDS, kafka.deliveries.records());
    }
    if let Some(lake) = &stats.lake {
        let files = lake.progress.files();
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
        assert_eq!(REGISTRY.faults(include_str!("../../../../docs/metrics.md")), Vec::<String>::new());
    }
}
