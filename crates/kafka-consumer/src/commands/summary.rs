//! Prints the summary of a run, as a table or as a structured log line.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use pipeline_runtime::progress;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::grouped;

use crate::ingest::Summary;

pub(crate) fn show(summary: &Summary, log: &LogArgs) {
    if !log.is_text() {
        line(summary);
    } else if log.quiet == 0 {
        print(&table(summary));
    }
}

/// Prints a table to stderr, above a progress line.
pub(crate) fn print(table: &Table) {
    // Nothing can be reported if stderr is closed.
    let _ = progress::above(|| writeln!(io::stderr(), "{table}"));
}

fn line(summary: &Summary) {
    let tally = summary.tally;
    tracing::info!(
        records = tally.records,
        rows = tally.rows,
        duplicates = tally.duplicates,
        duplicates_differing = tally.duplicates_differing,
        dead_letters = tally.dead_letters,
        expired = tally.expired,
        suppressed = tally.suppressed,
        transactions = summary.transactions,
        retries = summary.retries,
        elapsed_seconds = summary.elapsed.as_secs_f64(),
        reading_seconds = summary.reading.as_secs_f64(),
        records_per_second = per_second(summary),
        "run ended"
    );
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
fn table(summary: &Summary) -> Table {
    let tally = summary.tally;
    let rows = [
        ("records committed", grouped(tally.records)),
        ("  rows inserted", grouped(tally.rows)),
        ("  duplicates", grouped(tally.duplicates)),
        ("    with different content", grouped(tally.duplicates_differing)),
        ("  dead letters", grouped(tally.dead_letters)),
        ("  expired", grouped(tally.expired)),
        ("  suppressed by triggers", grouped(tally.suppressed)),
        ("transactions", grouped(summary.transactions)),
        ("retries", grouped(summary.retries)),
        ("elapsed time", format!("{:.1} s", summary.elapsed.as_secs_f64())),
        ("first record to last commit", format!("{:.1} s", summary.reading.as_secs_f64())),
        ("records per second", grouped(per_second(summary).round() as u64)),
    ];
    table_of(&rows)
}

/// Builds a table of names and values.
pub(crate) fn table_of(rows: &[(&str, String)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([*name, value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Returns the number of records per second, from the first record to the last commit.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(summary: &Summary) -> f64 {
    let seconds = summary.reading.as_secs_f64();
    if seconds > 0.0 { summary.tally.records as f64 / seconds } else { 0.0 }
}
