//! The median of each candidate's rounds, as a table and as target/bench/consumer.json.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::candidates::{Candidate, Run};

pub(crate) struct Report {
    events: u64,
    runs: BTreeMap<Candidate, Vec<Run>>,
}

/// A candidate's medians.
struct Figures {
    rows_a_second: f64,
    cpu_micros_a_row: f64,
    postgres_cpu_micros_a_row: f64,
    peak_memory_mib: f64,
}

impl Report {
    pub(crate) fn new(events: u64) -> Self {
        Self { events, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, candidate: Candidate, run: Run) {
        self.runs.entry(candidate).or_default().push(run);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(&self, candidate: Candidate) -> Option<Figures> {
        let runs = self.runs.get(&candidate)?;
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        Some(Figures {
            rows_a_second: of(Run::rows_a_second),
            cpu_micros_a_row: of(|run| micros_a_row(run, run.cpu_seconds)),
            postgres_cpu_micros_a_row: of(|run| micros_a_row(run, run.postgres_cpu_seconds)),
            peak_memory_mib: of(|run| run.peak_memory_kib as f64 / 1024.0),
        })
    }

    /// How many times as fast as another one, in the median of the rounds.
    fn ratio(&self, candidate: Candidate, to: Candidate) -> Option<f64> {
        let (ours, theirs) = (self.runs.get(&candidate)?, self.runs.get(&to)?);
        Some(median(ours.iter().zip(theirs).map(|(our, their)| our.rows_a_second() / their.rows_a_second()).collect()))
    }

    fn ratios(&self) -> Vec<(&'static str, f64)> {
        use Candidate::{Consumer, ConsumerWithDuplicates, CopyBinary, CopyCsv};
        let ratios = [
            ("ratio_to_psql_copy", Consumer, CopyCsv),
            ("ratio_to_psql_copy_binary", Consumer, CopyBinary),
            ("ratio_with_duplicates", ConsumerWithDuplicates, Consumer),
        ];
        ratios.into_iter().filter_map(|(name, one, other)| Some((name, self.ratio(one, other)?))).collect()
    }

    pub(crate) fn write_json(&self) {
        let mut all = Map::new();
        all.insert("events".to_owned(), json!(self.events));
        all.extend(self.ratios().into_iter().map(|(name, ratio)| (name.to_owned(), json!(ratio))));
        for candidate in self.runs.keys() {
            let Some(figures) = self.figures(*candidate) else { continue };
            all.insert(
                candidate.to_string(),
                json!({
                    "rows_per_second": figures.rows_a_second,
                    "cpu_micros_per_row": figures.cpu_micros_a_row,
                    "postgres_cpu_micros_per_row": figures.postgres_cpu_micros_a_row,
                    "peak_memory_mib": figures.peak_memory_mib,
                    "runs": self.runs[candidate].iter().map(Run::rows_a_second).collect::<Vec<_>>(),
                }),
            );
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string_pretty(&Value::Object(all)).unwrap();
        std::fs::write(folder.join("consumer.json"), text + "\n").unwrap();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(["", "rows/s", "CPU µs/row", "PostgreSQL µs/row", "peak MiB"]);
        for candidate in self.runs.keys() {
            let Some(one) = self.figures(*candidate) else { continue };
            table.add_row([
                candidate.to_string(),
                format!("{:.0}", one.rows_a_second),
                format!("{:.2}", one.cpu_micros_a_row),
                format!("{:.2}", one.postgres_cpu_micros_a_row),
                format!("{:.0}", one.peak_memory_mib),
            ]);
        }
        for column in 1..5 {
            table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{} events, median of the rounds\n{table}", self.events)?;
        for (name, ratio) in self.ratios() {
            write!(f, "\n{name} = {ratio:.2}")?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn micros_a_row(run: &Run, seconds: f64) -> f64 {
    seconds * 1e6 / run.rows as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
