//! Medians of each candidate's rounds, as a table and as a file in `target/bench`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::programs::keep;
use crate::run::Run;

/// Runs of all candidates `C`.
pub(crate) struct Report<C: 'static> {
    form: Form<C>,
    events: u64,
    runs: BTreeMap<C, Vec<Run>>,
}

/// Labels of the report.
pub(crate) struct Form<C: 'static> {
    /// Name of the file in `target/bench`.
    pub(crate) name: &'static str,
    /// `row` or `event`.
    pub(crate) item: &'static str,
    /// Server that the candidates write to.
    pub(crate) server: &'static str,
    pub(crate) ratios: &'static [Ratio<C>],
}

/// Ratio of one candidate to the fastest of others.
pub(crate) struct Ratio<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) one: C,
    pub(crate) others: &'static [C],
    pub(crate) what: What,
}

#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Items per second.
    Speed,
    /// CPU time per item, including the server's.
    Cpu,
}

impl What {
    fn of(self, run: &Run) -> f64 {
        match self {
            Self::Speed => run.per_second(),
            Self::Cpu => run.micros_an_item(run.cpu_seconds + run.server_cpu_seconds),
        }
    }
}

/// Medians of a candidate.
struct Figures {
    per_second: f64,
    cpu_micros: f64,
    server_cpu_micros: f64,
    peak_memory_mib: f64,
}

impl<C: Copy + Display + Ord> Report<C> {
    pub(crate) fn new(form: Form<C>, events: u64) -> Self {
        Self { form, events, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, candidate: C, round: usize, run: Run) {
        eprintln!("round {round}: {candidate:<40} {:>9.0} {}s/s", run.per_second(), self.form.item);
        self.runs.entry(candidate).or_default().push(run);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(&self, candidate: C) -> Option<Figures> {
        let runs = self.runs.get(&candidate)?;
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        Some(Figures {
            per_second: of(Run::per_second),
            cpu_micros: of(|run| run.micros_an_item(run.cpu_seconds)),
            server_cpu_micros: of(|run| run.micros_an_item(run.server_cpu_seconds)),
            peak_memory_mib: of(|run| run.peak_memory_kib as f64 / 1024.0),
        })
    }

    fn ratio(&self, ratio: &Ratio<C>) -> Option<f64> {
        let speed = |one: &&C| self.figures(**one).map_or(0.0, |figures| figures.per_second);
        let best = ratio.others.iter().max_by(|one, other| speed(one).total_cmp(&speed(other)))?;
        let (ours, theirs) = (self.runs.get(&ratio.one)?, self.runs.get(best)?);
        Some(median(ours.iter().zip(theirs).map(|(our, their)| ratio.what.of(our) / ratio.what.of(their)).collect()))
    }

    fn ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.form.ratios.iter().filter_map(|ratio| Some((ratio.name, self.ratio(ratio)?)))
    }

    /// Prints the table and writes the file.
    pub(crate) fn publish(&self) {
        println!("{self}");
        let mut all = Map::new();
        all.insert("events".to_owned(), json!(self.events));
        all.extend(self.ratios().map(|(name, ratio)| (name.to_owned(), json!(ratio))));
        for candidate in self.runs.keys() {
            let Some(figures) = self.figures(*candidate) else { continue };
            let item = self.form.item;
            let runs: Vec<f64> = self.runs[candidate].iter().map(Run::per_second).collect();
            let mut one = Map::new();
            one.insert(format!("{item}s_per_second"), json!(figures.per_second));
            one.insert(format!("cpu_micros_per_{item}"), json!(figures.cpu_micros));
            let server = format!("{}_cpu_micros_per_{item}", self.form.server.to_lowercase());
            one.insert(server, json!(figures.server_cpu_micros));
            one.insert("peak_memory_mib".to_owned(), json!(figures.peak_memory_mib));
            one.insert("runs".to_owned(), json!(runs));
            all.insert(candidate.to_string(), Value::Object(one));
        }
        keep(self.form.name, &Value::Object(all));
    }
}

impl<C: Copy + Display + Ord> Display for Report<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Form { item, server, .. } = self.form;
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
        let server = format!("{server} µs/{item}");
        table.set_header(["", &format!("{item}s/s"), &format!("CPU µs/{item}"), &server, "peak MiB"]);
        for candidate in self.runs.keys() {
            let Some(one) = self.figures(*candidate) else { continue };
            table.add_row([
                candidate.to_string(),
                format!("{:.0}", one.per_second),
                format!("{:.2}", one.cpu_micros),
                format!("{:.2}", one.server_cpu_micros),
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
