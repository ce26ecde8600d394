//! What the demo shows: progress on standard error, results on standard output.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, LineStyle, Table};
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::stores::{Counts, Features, Funnel};
use crate::output;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// What the demo's generator was told to do to an experiment, so that there is something to see.
pub(super) const EFFECT: &str = "exp_3=+40%";
const NEXT: &str = "Next, with servers that stay:
  cargo run -p local-stack -- up
  cargo run -p event-generator      in one terminal
  cargo run -p kafka-consumer       in another";

/// How far the two programs are.
pub(super) struct Progress {
    bars: Option<Bars>,
    last_line: Option<Instant>,
    last_text: String,
}

struct Bars {
    published: ProgressBar,
    consumed: ProgressBar,
}

impl Progress {
    /// Bars on a terminal, a line now and then elsewhere.
    pub(super) fn new(events: u64) -> Self {
        let bars = io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let bar = |name| all.add(ProgressBar::new(events)).with_style(style()).with_prefix(name);
            Bars { published: bar("published"), consumed: bar("inserted") }
        });
        Self { bars, last_line: None, last_text: String::new() }
    }

    /// `sent`: no more will be published.
    pub(super) fn show(&mut self, counts: &Counts, sent: bool) {
        let (published, consumed) = (counts.published(), counts.consumed());
        let records = format!("{} records in Kafka", HumanCount(published));
        let rows = format!("{} rows in PostgreSQL", HumanCount(counts.rows.unsigned_abs()));
        if let Some(bars) = &self.bars {
            for (bar, position, text) in [(&bars.published, published, records), (&bars.consumed, consumed, rows)] {
                // Duplicates add to the number that was asked for, refused events take from it.
                let expected = bar.length().unwrap_or(0).max(published);
                bar.set_length(if sent { published } else { expected });
                bar.set_position(position);
                bar.set_message(text);
            }
            return;
        }
        self.last_text = format!("{records}, {rows}");
        if self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.write_line();
        }
    }

    /// Leaves the last state on the screen.
    pub(super) fn finish(&mut self) {
        match &self.bars {
            Some(bars) => {
                bars.published.abandon();
                bars.consumed.abandon();
            }
            None => self.write_line(),
        }
    }

    fn write_line(&mut self) {
        let _ = writeln!(io::stderr(), "{}", self.last_text);
        self.last_line = Some(Instant::now());
    }
}

fn style() -> ProgressStyle {
    // The template is constant; were it wrong, a plain bar would do.
    ProgressStyle::with_template("{prefix:<9} [{bar:24}] {percent:>3} %  {msg}")
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}

/// What the two programs did.
pub(super) struct Summary {
    events: u64,
    events_per_second: f64,
    counts: Counts,
    consuming: Duration,
}

impl Summary {
    /// `sent` is the generator's last word.
    pub(super) fn new(sent: &Value, counts: &Counts, consuming: Duration) -> Self {
        Self {
            events: sent["events"].as_u64().unwrap_or(0),
            events_per_second: sent["events_per_second"].as_f64().unwrap_or(0.0),
            counts: counts.clone(),
            consuming,
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, of counts far below 2^52"
    )]
    fn lines(&self) -> [String; 2] {
        let counts = &self.counts;
        let count = |number: i64| HumanCount(number.unsigned_abs());
        let seconds = self.consuming.as_secs_f64().max(0.001);
        [
            format!(
                "event-generator  {} events, {} records in Kafka, {}/s",
                HumanCount(self.events),
                HumanCount(counts.published()),
                HumanCount(self.events_per_second.round() as u64),
            ),
            format!(
                "kafka-consumer   {} rows, {} duplicates, {} dead letters, {}/s",
                count(counts.rows),
                count(counts.duplicates),
                count(counts.dead_letters),
                HumanCount((counts.rows as f64 / seconds).round() as u64),
            ),
        ]
    }
}

/// What the programs did, and what the warehouse has.
pub(super) fn summary(summary: &Summary, funnel: &[Funnel]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for line in summary.lines() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nThe funnel by experiment, from the warehouse (made with --effect {EFFECT}):\n{}", table(funnel))
}

/// What a few users did of late, and what comes next.
pub(super) fn features(users: &[Features]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction('─'))).set_header([
        "user",
        "searches",
        "clicks",
        "clicks a search",
        "last active (UTC)",
    ]);
    for user in users {
        table.add_row([
            user.user_id.to_string(),
            user.searches.to_string(),
            user.clicks.to_string(),
            user.ctr.map_or_else(String::new, |ctr| format!("{ctr:.2}")),
            user.last_activity.clone(),
        ]);
    }
    for column in table.column_iter_mut().take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "\nThe features of the most active users, last 24 hours:\n{table}")?;
    writeln!(out, "\nIs the data as it should be?")
}

pub(super) fn before_reconciling() -> io::Result<()> {
    writeln!(io::stdout(), "\nIs every event of the run where it belongs? `kafka-consumer reconcile` says:")
}

/// The last part.
pub(super) fn before_the_verifier() -> io::Result<()> {
    writeln!(io::stdout(), "\nAnd the verifier, which shares no code with the programs:")
}

/// Experiments down, steps across: fits 80 columns.
fn table(funnel: &[Funnel]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction('─'))).set_header([
        "experiment",
        "searches",
        "clicks",
        "views",
        "requests",
        "requests a view",
    ]);
    for Funnel { experiment, counts, requests_per_view } in funnel {
        let counts = counts.map(|count| HumanCount(count.unsigned_abs()).to_string());
        let ratio = requests_per_view.map_or_else(String::new, |ratio| format!("{:.1} %", ratio * 100.0));
        table.add_row([experiment.clone()].into_iter().chain(counts).chain([ratio]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The last word of a demo that went well.
pub(super) fn next(took: Duration) -> io::Result<()> {
    writeln!(io::stdout(), "\nDone in {}. No process is left.\n\n{NEXT}", output::seconds(took))
}
