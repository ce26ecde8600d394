//! The result of a verification, printed as a table.

use std::fmt;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Maximum number of examples per equation.
pub const EXAMPLES: usize = 10;

/// Results of all equations of a run, in the order I1 to I6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    title: String,
    checks: Vec<Check>,
}

/// Result of one equation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Invariant that the equation belongs to, `I1` to `I6`.
    pub invariant: &'static str,
    /// Name of the equation, a constant of [`equation`](crate::equation).
    pub name: &'static str,
    /// Expected number.
    pub expected: Expected,
    /// Number found in the stores.
    pub found: u64,
    /// Up to [`EXAMPLES`] descriptions of differences: index, event ID and position.
    pub examples: Vec<String>,
}

/// Condition on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Equal to this number.
    Exactly(u64),
    /// Equal to or greater than this number.
    AtLeast(u64),
    /// Equal to or less than this number.
    AtMost(u64),
}

impl Report {
    pub(crate) fn new(title: String, checks: Vec<Check>) -> Self {
        Self { title, checks }
    }

    /// Returns true if all equations hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }

    /// Returns the results of all equations.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Returns the equations that do not hold.
    pub fn differences(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.holds())
    }

    /// Returns the names of the equations that do not hold.
    #[must_use]
    pub fn different(&self) -> Vec<&'static str> {
        self.differences().map(|check| check.name).collect()
    }

    /// Returns the number found for an equation, or `None` if it was not evaluated.
    #[must_use]
    pub fn found(&self, name: &str) -> Option<u64> {
        self.checks.iter().find(|check| check.name == name).map(|check| check.found)
    }
}

impl Check {
    /// Returns true if the equation holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.expected {
            Expected::Exactly(n) => self.found == n,
            Expected::AtLeast(n) => self.found >= n,
            Expected::AtMost(n) => self.found <= n,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(n) => f.write_str(&grouped(*n)),
            Self::AtLeast(n) => write!(f, "≥ {}", grouped(*n)),
            Self::AtMost(n) => write!(f, "≤ {}", grouped(*n)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["", "equation", "expected", "found", "result"]);
        for check in &self.checks {
            let result = if check.holds() { "holds" } else { "DIFFERS" };
            let (expected, found) = (check.expected.to_string(), grouped(check.found));
            table.add_row([check.invariant, check.name, &expected, &found, result]);
        }
        for column in [2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{}\n{table}", self.title)?;
        for check in self.differences() {
            writeln!(
                f,
                "\n{} {}: expected {}, found {}",
                check.invariant,
                check.name,
                check.expected,
                grouped(check.found)
            )?;
            for example in &check.examples {
                writeln!(f, "    {example}")?;
            }
        }
        let different = self.differences().count();
        if different == 0 {
            write!(f, "all {} equations hold", self.checks.len())
        } else {
            write!(f, "{different} of {} equations differ", self.checks.len())
        }
    }
}

/// Formats a number with thousands separators, such as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Number of differences of one kind, with descriptions of the first ones.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

impl Finding {
    pub(crate) fn note(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(describe());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Expected, found: u64) -> Check {
        Check { invariant: "I1", name: "rows", expected, found, examples: vec!["index 7".into()] }
    }

    #[test]
    fn figures_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_report_holds_when_every_check_does() {
        let good = [
            Expected::Exactly(2),
            Expected::AtLeast(2),
            Expected::AtLeast(1),
            Expected::AtMost(2),
            Expected::AtMost(3),
        ];
        let bad = [Expected::Exactly(3), Expected::AtLeast(3), Expected::AtMost(1)];
        assert!(good.iter().all(|e| check(*e, 2).holds()));
        assert!(bad.iter().all(|e| !check(*e, 2).holds()));
        let report = Report::new("run".into(), vec![check(good[0], 2), check(bad[0], 2)]);
        assert!(!report.holds());
        assert_eq!(report.different(), ["rows"]);
        let shown = report.to_string();
        assert!(
            shown.contains("DIFFERS") && shown.contains("    index 7") && shown.ends_with("1 of 2 equations differ"),
            "{shown}"
        );
    }
}
