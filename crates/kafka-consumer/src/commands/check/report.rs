//! Formats the report as text of at most 80 columns.

use std::fmt;

use comfy_table::{CellAlignment, Table};

use crate::commands::check::runner::{CheckResult, Report, Status};
use crate::commands::printable::escaped;

const HEADER: [&str; 5] = ["check", "result", "value", "maximum", "severity"];
const WIDTH: usize = 80;
const INDENT: &str = "  ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", table(&self.results))?;
        let worth_a_word = |one: &&CheckResult| matches!(one.status, Status::Fail | Status::Broken);
        self.results.iter().filter(worth_a_word).try_for_each(|one| words(f, one))
    }
}

fn table(results: &[CheckResult]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY).set_header(HEADER);
    for one in results {
        let value = one.value.map_or_else(|| "-".to_owned(), |value| format!("{} {}", number(value), one.unit));
        table.add_row([
            cut(&one.name, 26),
            one.status.name().to_owned(),
            cut(&value, 16),
            number(one.threshold),
            one.severity.name().to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cut(text: &str, letters: usize) -> String {
    escaped(text.trim().as_bytes()).chars().take(letters).collect()
}

/// Writes the detail and the explanation of a check.
fn words(f: &mut fmt::Formatter<'_>, one: &CheckResult) -> fmt::Result {
    writeln!(f, "\n{} ({})", one.name, one.status.name())?;
    if let Some(detail) = &one.detail {
        wrapped(f, &escaped(detail.as_bytes()))?;
    }
    wrapped(f, &escaped(one.explanation.as_bytes()))
}

/// Writes indented text, wrapped between words. Splits a word that is longer than a line.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let room = WIDTH - INDENT.len();
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        let written = writeln!(f, "{INDENT}{line}");
        line.clear();
        written
    };
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(room) {
            if !line.is_empty() && line.chars().count() + 1 + piece.len() > room {
                flush(&mut line)?;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(piece);
        }
    }
    if line.is_empty() { Ok(()) } else { flush(&mut line) }
}

/// Formats a number for a narrow column: in scientific notation from 10 million, without decimals from 10,000, and with
/// at most two decimals below.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e7 => format!("{value:.1e}"),
        size if size >= 1e4 || value.fract() == 0.0 => format!("{value:.0}"),
        _ => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::definition::Severity;
    use uuid::Uuid;

    fn result(status: Status, value: Option<f64>, detail: &str) -> CheckResult {
        CheckResult {
            name: "n".repeat(64),
            status,
            severity: Severity::Warning,
            value,
            threshold: -123_456_789.123,
            unit: "letters and more".to_owned(),
            detail: Some(detail.to_owned()),
            explanation: "It means a lot. ".repeat(20),
            seconds: 1.0,
        }
    }

    #[test]
    fn it_fits_80_columns_and_obeys_no_detail() {
        let long = "x".repeat(200);
        let results = vec![
            result(Status::Fail, Some(123_456_789.125), &format!("{long} \u{1b}[31mred\n{long}")),
            result(Status::Skip, None, "not shown"),
            result(Status::Broken, None, "no such table"),
        ];
        let shown = Report { run_id: Uuid::nil(), results }.to_string();
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(!shown.contains('\u{1b}') && !shown.contains("not shown"), "{shown}");
        assert!(shown.contains("no such table") && shown.contains("1.2e8 letters"), "{shown}");
    }

    #[test]
    fn numbers_for_people() {
        let shown = [0.0, 17.0, 0.5, 1.0 / 3.0, 12_345.678, 2e12, -1.24e300].map(number);
        assert_eq!(shown, ["0", "17", "0.5", "0.33", "12346", "2.0e12", "-1.2e300"]);
    }
}
