//! Counts the instructions of each step of the hot path per event with Valgrind's callgrind, and compares them with a
//! baseline. Unlike times, the counts do not depend on the load of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bench::hot_path::Step;
use clap::Args;
use comfy_table::{CellAlignment, Table};
use tempfile::TempDir;

/// Number of prepared events.
const EVENTS: u64 = 2_000;
/// Maximum increase over the baseline. Updates of rustc or a dependency usually stay below it.
const TOLERANCE: f64 = 0.03;

#[derive(Args)]
pub(crate) struct Check {
    /// Write the counts as the new baseline
    #[arg(long)]
    update: bool,
    /// Count only this step; repeatable
    #[arg(long = "only", value_enum)]
    only: Vec<Step>,
}

#[derive(Args)]
pub(crate) struct Repeat {
    #[arg(long, value_enum)]
    step: Step,
    #[arg(long)]
    times: u64,
}

/// Instructions per event, by name of the step.
type Counts = BTreeMap<String, f64>;

/// Executes a step repeatedly, as the program that callgrind observes.
pub(crate) fn repeat(arguments: &Repeat) {
    let mut run = arguments.step.prepare(EVENTS);
    for _ in 0..arguments.times {
        black_box(run());
    }
}

/// Counts instructions and prints a table. Fails if a step exceeds its baseline by more than the tolerance.
pub(crate) fn check(arguments: &Check) {
    let files = tempfile::tempdir().unwrap();
    let chosen = |step: &Step| arguments.only.is_empty() || arguments.only.contains(step);
    let counted: Counts = Step::ALL.into_iter().filter(chosen).map(|step| (step.name(), count(step, &files))).collect();
    let mut baseline: Counts =
        fs::read_to_string(baseline_file()).map_or_else(|_| Counts::new(), |text| serde_json::from_str(&text).unwrap());
    println!("{}", table(&counted, &baseline));
    if arguments.update {
        baseline.extend(counted);
        fs::write(baseline_file(), serde_json::to_string_pretty(&baseline).unwrap() + "\n").unwrap();
        return;
    }
    let costly: Vec<&str> =
        counted.iter().filter(|one| change(one, &baseline) > TOLERANCE).map(|(name, _)| name.as_str()).collect();
    assert!(
        costly.is_empty(),
        "instructions exceed the baseline by more than {:.0}%: {}; find the cause, or accept it with \
         'make bench-check BENCH=--update'",
        TOLERANCE * 100.0,
        costly.join(", ")
    );
}

/// Returns the instructions per event. Subtracting two runs of different length excludes the start-up and the
/// preparation.
fn count(step: Step, files: &TempDir) -> f64 {
    const FEW: u64 = 2;
    const MANY: u64 = 6;
    let [few, many] = [FEW, MANY].map(|times| instructions(step, times, files));
    let events = (MANY - FEW) * EVENTS;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let an_event = (many - few) as f64 / events as f64;
    (an_event * 10.0).round() / 10.0
}

fn instructions(step: Step, times: u64, files: &TempDir) -> u64 {
    let out = files.path().join(format!("{}-{times}", step.name()));
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", &format!("--callgrind-out-file={}", out.display())]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["repeat", "--step", &step.name(), "--times", &times.to_string()]);
    let status = command.stdout(Stdio::null()).status().expect("cannot start valgrind; run 'make setup'");
    assert!(status.success(), "{command:?}");
    let text = fs::read_to_string(out).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    line.and_then(|number| number.trim().parse().ok()).expect("callgrind's total")
}

fn change((name, count): &(&String, &f64), baseline: &Counts) -> f64 {
    baseline.get(*name).map_or(f64::INFINITY, |before| *count / before - 1.0)
}

fn table(counted: &Counts, baseline: &Counts) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["instructions/event", "now", "baseline", "change"]);
    for step in Step::ALL.into_iter().map(Step::name) {
        let Some(now) = counted.get(&step) else { continue };
        let before = baseline.get(&step).map_or("none".to_owned(), |before| format!("{before:.0}"));
        let change = change(&(&step, now), baseline);
        let change = if change.is_finite() { format!("{:+.1}%", change * 100.0) } else { String::new() };
        table.add_row([step, format!("{now:.0}"), before, change]);
    }
    for column in 1..4 {
        table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn baseline_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}
