//! Metrics for Prometheus: definitions, histograms and the text format.

mod exposition;
mod histogram;
mod metric;
mod process;

pub use exposition::Exposition;
pub use histogram::Histogram;
pub use metric::{Kind, Metric};

use process::{RESIDENT_MEMORY, START_TIME};

/// Media type of Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of a program.
#[derive(Clone, Copy, Debug)]
pub struct Registry {
    prefix: &'static str,
    metrics: &'static [Metric],
}

/// Metrics of every process, with the names that Prometheus' client libraries use.
const OF_EACH_PROCESS: [Metric; 2] = [RESIDENT_MEMORY, START_TIME];

/// Permitted endings of the names of gauges and histograms.
const UNITS: [&str; 6] = ["_seconds", "_bytes", "_records", "_rows", "_ready", "_info"];

impl Registry {
    /// Creates the registry of a program. The names of its metrics start with `prefix`.
    #[must_use]
    pub const fn new(prefix: &'static str, metrics: &'static [Metric]) -> Self {
        Self { prefix, metrics }
    }

    /// Returns the metrics of the program, followed by those of every process.
    pub fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().chain(&OF_EACH_PROCESS)
    }

    /// Renders the samples that `write` adds, followed by those of the process.
    ///
    /// `started` is the start of the process in seconds since 1970.
    #[must_use]
    pub fn render(&self, started: f64, write: impl FnOnce(&mut Exposition)) -> String {
        let mut text = Exposition::new();
        write(&mut text);
        process::write(&mut text, started);
        text.finish()
    }

    /// Returns the faults of the definitions: names without prefix or unit, duplicate names, and undocumented names.
    ///
    /// `documentation` must contain each name in backticks. Intended for tests of the programs.
    #[must_use]
    pub fn faults(&self, documentation: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for Metric { name, kind, .. } in self.metrics {
            if !name.starts_with(self.prefix) {
                faults.push(format!("{name}: the prefix is {}", self.prefix));
            }
            let ends_well = match kind {
                Kind::Counter => name.ends_with("_total"),
                Kind::Gauge | Kind::Histogram => UNITS.iter().any(|unit| name.ends_with(unit)),
            };
            if !ends_well {
                faults.push(format!("{name}: no unit"));
            }
            if self.metrics.iter().filter(|other| other.name == *name).count() > 1 {
                faults.push(format!("{name}: duplicate name"));
            }
        }
        let undocumented = self.metrics().filter(|metric| !documentation.contains(&format!("`{}`", metric.name)));
        faults.extend(undocumented.map(|metric| format!("{}: not documented", metric.name)));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Registry = Registry::new(
        "x_",
        &[
            Metric::counter("x_events_total", "Events."),
            Metric::gauge("x_lag_records", "Lag."),
            Metric::histogram("x_wait_seconds", "Wait."),
        ],
    );
    const ODD: Registry = Registry::new(
        "x_",
        &[
            Metric::counter("x_events", "Events."),
            Metric::gauge("lag_records", "Lag."),
            Metric::gauge("x_memory_bytes", "Memory."),
            Metric::gauge("x_memory_bytes", "Memory."),
            Metric::gauge("x_wait_total", "Wait."),
        ],
    );

    fn documentation(registry: &Registry) -> String {
        registry.metrics().map(|metric| format!("`{}`", metric.name)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_carry_program_and_unit() {
        assert_eq!(SOUND.faults(&documentation(&SOUND)), Vec::<String>::new());
        let faults = [
            "x_events: no unit",
            "lag_records: the prefix is x_",
            "x_memory_bytes: duplicate name",
            "x_memory_bytes: duplicate name",
            "x_wait_total: no unit",
        ];
        assert_eq!(ODD.faults(&documentation(&ODD)), faults);
        assert_eq!(SOUND.faults("`x_events_total` `x_wait_seconds`").len(), 3, "lag, memory and start are missing");
    }

    #[test]
    fn each_process_has_memory_and_a_start() {
        let text = SOUND.render(1.5, |text| text.single(&SOUND.metrics[1], 7));
        assert!(text.starts_with("# HELP x_lag_records Lag.\n# TYPE x_lag_records gauge\nx_lag_records 7\n"), "{text}");
        assert!(text.ends_with("\nprocess_start_time_seconds 1.5\n"), "{text}");
    }
}
