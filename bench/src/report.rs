//! Medians of each candidate's rounds, as a table and as a file in `target/bench`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::programs::keep;
use crate::run::Run;
use crate::spread::{Spread, figure_of_fastest};

/// Runs of all candidates `C`.
pub(crate) struct Report<C: 'static> {
    form: Form<C>,
    events: u64,
    /// By candidate and round.
    runs: BTreeMap<C, BTreeMap<usize, Run>>,
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

/// Ratio of one candidate to the fastest of others in the same round.
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

/// Figures of a candidate over its rounds.
struct Figures {
    per_second: Spread,
    cpu_micros: Spread,
    server_cpu_micros: Spread,
    peak_memory_mib: Spread,
}

impl<C: Copy + Display + Ord> Report<C> {
    pub(crate) fn new(form: Form<C>, events: u64) -> Self {
        Self { form, events, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, candidate: C, round: usize, run: Run) {
        eprintln!("round {round}: {candidate:<40} {:>9.0} {}s/s", run.per_second(), self.form.item);
        self.runs.entry(candidate).or_default().insert(round, run);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn figures(&self, candidate: C) -> Option<Figures> {
        let runs = self.runs.get(&candidate)?;
        let of = |figure: fn(&Run) -> f64| Spread::of(runs.values().map(figure));
        Some(Figures {
            per_second: of(Run::per_second)?,
            cpu_micros: of(|run| run.micros_an_item(run.cpu_seconds))?,
            server_cpu_micros: of(|run| run.micros_an_item(run.server_cpu_seconds))?,
            peak_memory_mib: of(|run| run.peak_memory_kib as f64 / 1024.0)?,
        })
    }

    /// Returns the spread of the ratios over the rounds that have the candidate and at least one of the others.
    fn ratio(&self, ratio: &Ratio<C>) -> Option<Spread> {
        let ours = self.runs.get(&ratio.one)?;
        Spread::of(ours.iter().filter_map(|(round, our)| {
            let theirs = ratio.others.iter().filter_map(|other| self.runs.get(other)?.get(round));
            let best = figure_of_fastest(theirs.map(|run| (run.per_second(), ratio.what.of(run))))?;
            Some(ratio.what.of(our) / best)
        }))
    }

    fn ratios(&self) -> impl Iterator<Item = (&'static str, Spread)> {
        self.form.ratios.iter().filter_map(|ratio| Some((ratio.name, self.ratio(ratio)?)))
    }

    /// Prints the table and writes the file.
    pub(crate) fn publish(&self) {
        println!("{self}");
        let mut all = Map::new();
        all.insert("events".to_owned(), json!(self.events));
        for (name, ratio) in self.ratios() {
            all.insert(name.to_owned(), json!(ratio.median));
            all.insert(format!("{name}_range"), json!([ratio.min, ratio.max]));
        }
        for candidate in self.runs.keys() {
            let Some(figures) = self.figures(*candidate) else { continue };
            let item = self.form.item;
            let runs: Vec<f64> = self.runs[candidate].values().map(Run::per_second).collect();
            let mut one = Map::new();
            one.insert(format!("{item}s_per_second"), json!(figures.per_second.median));
            one.insert(format!("cpu_micros_per_{item}"), json!(figures.cpu_micros.median));
            let server = format!("{}_cpu_micros_per_{item}", self.form.server.to_lowercase());
            one.insert(server, json!(figures.server_cpu_micros.median));
            one.insert("peak_memory_mib".to_owned(), json!(figures.peak_memory_mib.median));
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
                one.per_second.cell(0),
                one.cpu_micros.cell(2),
                one.server_cpu_micros.cell(2),
                one.peak_memory_mib.cell(0),
            ]);
        }
        for column in 1..5 {
            table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{} events, median and range of the rounds\n{table}", self.events)?;
        for (name, ratio) in self.ratios() {
            write!(f, "\n{name} = {}", ratio.in_line(2))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FORM: Form<&str> = Form {
        name: "test",
        item: "row",
        server: "PostgreSQL",
        ratios: &[Ratio { name: "ratio_to_best_peer", one: "ours", others: &["a", "b"], what: What::Speed }],
    };

    fn run(per_second: u64) -> Run {
        Run {
            items: per_second,
            elapsed: Duration::from_secs(1),
            cpu_seconds: 1.0,
            server_cpu_seconds: 1.0,
            peak_memory_kib: 1_024,
        }
    }

    #[test]
    fn each_round_has_its_best_peer() {
        let mut report = Report::new(FORM, 100);
        // Peer a is the best in the first round, peer b in the second. Peer b does not run in the third.
        let rounds = [(400, Some(200), Some(100)), (300, Some(50), Some(100)), (500, Some(100), None)];
        for (round, (ours, a, b)) in rounds.into_iter().enumerate() {
            for (name, per_second) in [("ours", Some(ours)), ("a", a), ("b", b)] {
                if let Some(per_second) = per_second {
                    report.add(name, round, run(per_second));
                }
            }
        }
        let ratio = report.ratio(&report.form.ratios[0]);
        assert_eq!(ratio, Some(Spread { median: 3.0, min: 2.0, max: 5.0 }));
        assert!(report.to_string().contains("ratio_to_best_peer = 3.00 (2.00 to 5.00)"), "{report}");
        assert!(report.to_string().contains("300–500"), "{report}");
    }
}
