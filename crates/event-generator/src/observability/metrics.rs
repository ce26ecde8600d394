//! Metrics of the generator. docs/metrics.md describes them for users.

use pipeline_runtime::metrics::{Exposition, Histogram, Metric, resident_memory_bytes};

use super::run_stats::RunStats;

/// Events of the run that were sent to the sinks, by outcome, including those before a resume.
const EVENTS: Metric =
    Metric::counter("events_made_total", "Events of the run that were handed to the sinks, by outcome.");
/// Records that all in-sync replicas have acknowledged.
const RECORDS: Metric =
    Metric::counter("records_acknowledged_total", "Records of the run that Kafka has acknowledged.");
/// Files in the lake, by kind.
const FILES: Metric = Metric::counter("lake_files_written_total", "Files of the run in the lake, by kind.");
/// Rows of those files, by kind.
const ROWS: Metric = Metric::counter("lake_rows_written_total", "Rows of the run in the lake, by kind.");
/// Seconds from the time at which an event was due until the Kafka client accepted its record; none in a backfill.
const LATENESS: Metric = Metric::histogram(
    "schedule_lateness_seconds",
    "Seconds from when an event was due to when it was handed over; none in a backfill.",
);
/// Seconds by which the next event of a live run is overdue.
const BEHIND: Metric =
    Metric::gauge("schedule_behind_seconds", "Seconds that the next event is overdue; 0 in a backfill.");
/// 1 while `/readyz` returns 200, else 0.
const READY: Metric = Metric::gauge("generator_ready", "1 while events get on, 0 while /readyz says 503.");
/// Resident memory in bytes.
const MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes.");
/// Start of the process in seconds since 1970.
const STARTED: Metric = Metric::gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.");
/// Always 1; its labels name the program, its version and the run.
const BUILD: Metric = Metric::gauge("build_info", "Always 1; the labels say which program this is and its run.");

/// All metrics.
#[cfg(test)]
const ALL: &[Metric] = &[EVENTS, RECORDS, FILES, ROWS, LATENESS, BEHIND, READY, MEMORY, STARTED, BUILD];

/// Upper bounds of [`LATENESS`], in seconds.
pub(super) const LATENESS_BOUNDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

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
    let mut text = Exposition::default();
    if let Some(stats) = stats {
        render_run(&mut text, stats);
    }
    text.histogram(&LATENESS, process.lateness);
    text.single(&BEHIND, process.behind);
    text.single(&READY, u8::from(process.ready));
    if let Some(bytes) = resident_memory_bytes() {
        text.single(&MEMORY, bytes);
    }
    text.single(&STARTED, process.started);
    text.metric(&BUILD);
    let run = stats.map_or("", |stats| stats.run.as_str());
    let labels = [("program", env!("CARGO_PKG_NAME")), ("version", env!("CARGO_PKG_VERSION")), ("run", run)];
    text.sample(&BUILD, &labels, 1);
    text.finish()
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
    fn the_documentation_names_each_metric() {
        let documentation = include_str!("../../../../docs/metrics.md");
        for metric in ALL {
            assert!(documentation.contains(&format!("`{}", metric.name)), "docs/metrics.md lacks {}", metric.name);
        }
    }
}
