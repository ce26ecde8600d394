//! The generator's metrics: their names and what they tell. docs/metrics.md has them for people.

use pipeline_runtime::metrics::{Exposition, Histogram, Metric, resident_memory_bytes};

use crate::observability::run_stats::Ledger;

/// Events of the run that were made and handed to the sinks, by outcome; those before a kill are among them.
pub const EVENTS: Metric =
    Metric::counter("events_made_total", "Events of the run that were handed to the sinks, by outcome.");
/// Records that all in-sync replicas have.
pub const RECORDS: Metric =
    Metric::counter("records_acknowledged_total", "Records of the run that Kafka has acknowledged.");
/// Files in the lake, by kind.
pub const FILES: Metric = Metric::counter("lake_files_written_total", "Files of the run in the lake, by kind.");
/// Rows of those files, by kind.
pub const ROWS: Metric = Metric::counter("lake_rows_written_total", "Rows of the run in the lake, by kind.");
/// Seconds from when an event was due to when its record was handed to the Kafka client; not in a backfill.
pub const LATENESS: Metric = Metric::histogram(
    "schedule_lateness_seconds",
    "Seconds from when an event was due to when it was handed over; none in a backfill.",
);
/// Seconds that the next event is overdue, in a run by the clock.
pub const BEHIND: Metric =
    Metric::gauge("schedule_behind_seconds", "Seconds that the next event is overdue; 0 in a backfill.");
/// 1 while `/readyz` says 200, else 0.
pub const READY: Metric = Metric::gauge("generator_ready", "1 while events get on, 0 while /readyz says 503.");
/// Memory in RAM, in bytes.
pub const MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes.");
/// When the process started, in seconds since 1970.
pub const STARTED: Metric = Metric::gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.");
/// Always 1; its labels say which program this is, and which run it makes.
pub const BUILD: Metric = Metric::gauge("build_info", "Always 1; the labels say which program this is and its run.");

/// All of them.
pub const ALL: &[Metric] = &[EVENTS, RECORDS, FILES, ROWS, LATENESS, BEHIND, READY, MEMORY, STARTED, BUILD];

/// Upper bounds of [`LATENESS`], in seconds.
pub const LATENESS_BOUNDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// What is shown beside the run's counts.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// How late events were.
    pub lateness: &'a Histogram,
    /// In seconds.
    pub behind: f64,
    /// What `/readyz` says.
    pub ready: bool,
    /// In seconds since 1970.
    pub started: f64,
}

/// The metrics as they are now, in Prometheus' text format. Without a ledger the run has not begun.
#[must_use]
pub fn render(ledger: Option<&Ledger>, shown: Shown<'_>) -> String {
    let mut text = Exposition::default();
    if let Some(ledger) = ledger {
        of_run(&mut text, ledger);
    }
    text.histogram(&LATENESS, shown.lateness);
    text.single(&BEHIND, shown.behind);
    text.single(&READY, u8::from(shown.ready));
    if let Some(bytes) = resident_memory_bytes() {
        text.single(&MEMORY, bytes);
    }
    text.single(&STARTED, shown.started);
    text.metric(&BUILD);
    let run = ledger.map_or("", |ledger| ledger.run.as_str());
    let labels = [("program", env!("CARGO_PKG_NAME")), ("version", env!("CARGO_PKG_VERSION")), ("run", run)];
    text.sample(&BUILD, &labels, 1);
    text.finish()
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
    fn the_documentation_names_each_metric() {
        let documentation = include_str!("../../../../docs/metrics.md");
        for metric in ALL {
            assert!(documentation.contains(&format!("`{}", metric.name)), "docs/metrics.md lacks {}", metric.name);
        }
    }
}
