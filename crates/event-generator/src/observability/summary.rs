//! The summary of a finished run: a table for people, a line for logs.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use lake::{End, FaultCounts, Manifest, manifest_key};
use pipeline_runtime::metrics::Histogram;
use pipeline_runtime::units::grouped;

/// A finished run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Path of the manifest on this host.
    pub(crate) manifest_path: &'a Path,
    /// Lateness of the events in seconds; none for a backfill.
    pub(crate) lateness: Option<&'a Histogram>,
    pub(crate) elapsed: Duration,
}

impl Summary<'_> {
    /// Returns the summary as a table.
    pub(crate) fn table(&self) -> String {
        let manifest = self.manifest;
        let counts = &manifest.counts;
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let mut row = |name: &str, value: &dyn Display| {
            table.add_row([name.to_owned(), value.to_string()]);
        };
        let end = if manifest.end == Some(End::Stopped) { "stopped" } else { "complete" };
        row("run", &format!("{} ({end})", manifest.run.id));
        row("seed", &manifest.settings["seed"]);
        row("from", &manifest.settings["from"].as_str().unwrap_or_default());
        row("events generated", &grouped(counts.outcomes.generated()));
        row("  valid", &grouped(counts.outcomes.valid));
        row("  invalid, quarantined", &grouped(counts.outcomes.invalid));
        row("  corrupt, sent", &grouped(counts.outcomes.corrupt));
        for (name, count) in faults(&counts.faults) {
            if count > 0 {
                row(&format!("  with fault {name}"), &grouped(count));
            }
        }
        match &manifest.kafka {
            Some(kafka) => row(&format!("records in {}", kafka.topic), &grouped(kafka.records)),
            None => row("records", &"none (--no-kafka)"),
        }
        if let Some(lake) = &manifest.lake {
            let raw = format!("{} in {} files", grouped(lake.raw.rows), grouped(lake.raw.files));
            let quarantine = format!("{} in {} files", grouped(lake.quarantine.rows), grouped(lake.quarantine.files));
            row("rows in raw files", &raw);
            row("rows in quarantine files", &quarantine);
        }
        row("elapsed", &seconds(self.elapsed));
        row("events per second", &rate(self.events_per_second()));
        if let Some(lateness) = self.lateness {
            row("lateness, p50", &seconds(quantile(lateness, 0.5)));
            row("lateness, p99", &seconds(quantile(lateness, 0.99)));
            row("lateness, maximum", &seconds(maximum(lateness)));
        }
        match &manifest.lake {
            Some(lake) => row("manifest", &format!("{}/{}", lake.url, manifest_key(&manifest.run.id))),
            None => row("manifest", &self.manifest_path.display()),
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// Logs the summary as one line.
    pub(crate) fn log(&self) {
        let manifest = self.manifest;
        let counts = &manifest.counts;
        let micros = |time: fn(&Histogram) -> Duration| {
            self.lateness.map(|lateness| u64::try_from(time(lateness).as_micros()).unwrap_or(u64::MAX))
        };
        tracing::info!(
            run = %manifest.run.id,
            complete = manifest.end == Some(End::CountReached),
            events = counts.outcomes.generated(),
            valid = counts.outcomes.valid,
            invalid = counts.outcomes.invalid,
            corrupt = counts.outcomes.corrupt,
            duplicate = counts.faults.duplicate,
            oversize = counts.faults.oversize,
            late = counts.faults.late,
            out_of_order = counts.faults.out_of_order,
            hot_key = counts.faults.hot_key,
            burst = counts.faults.burst,
            records_acknowledged = manifest.kafka.as_ref().map(|kafka| kafka.records),
            raw_files = manifest.lake.as_ref().map(|lake| lake.raw.files),
            raw_rows = manifest.lake.as_ref().map(|lake| lake.raw.rows),
            quarantine_rows = manifest.lake.as_ref().map(|lake| lake.quarantine.rows),
            elapsed_seconds = self.elapsed.as_secs_f64(),
            events_per_second = self.events_per_second(),
            lateness_p50_micros = micros(|lateness| quantile(lateness, 0.5)),
            lateness_p99_micros = micros(|lateness| quantile(lateness, 0.99)),
            lateness_max_micros = micros(maximum),
            manifest = manifest.lake.as_ref().map(|lake| format!("{}/{}", lake.url, manifest_key(&manifest.run.id))),
            "run ended"
        );
    }

    /// Returns the rate, rounded to two digits, which slow rates need.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn events_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64().max(1e-6);
        (self.manifest.counts.outcomes.generated() as f64 / seconds * 100.0).round() / 100.0
    }
}

/// Returns a quantile of the lateness, or zero without events.
fn quantile(lateness: &Histogram, share: f64) -> Duration {
    Duration::from_secs_f64(lateness.quantile(share).unwrap_or_default())
}

fn maximum(lateness: &Histogram) -> Duration {
    Duration::from_secs_f64(lateness.maximum())
}

/// Returns the kinds of faults that are not outcomes, with their labels.
fn faults(counts: &FaultCounts) -> [(&'static str, u64); 6] {
    [
        ("oversize", counts.oversize),
        ("duplicate", counts.duplicate),
        ("late", counts.late),
        ("out-of-order", counts.out_of_order),
        ("hot-key", counts.hot_key),
        ("burst", counts.burst),
    ]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.2}") } else { grouped(per_second.round() as u64) }
}

fn seconds(time: Duration) -> String {
    match time.as_micros() {
        0..10_000 => format!("{:.2} ms", time.as_secs_f64() * 1_000.0),
        10_000..1_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rates_are_not_rounded_to_nothing() {
        assert_eq!([0.5, 99.994, 2_499.6].map(rate), ["0.50", "99.99", "2,500"]);
    }

    #[test]
    fn times_in_their_own_unit() {
        assert_eq!(seconds(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(seconds(Duration::from_millis(250)), "250 ms");
        assert_eq!(seconds(Duration::from_millis(61_500)), "61.5 s");
    }
}
