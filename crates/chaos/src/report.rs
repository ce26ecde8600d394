//! Report of the faults, results and findings.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};

/// Number of attempts without proof after which a kind of fault is reported as a defect of this tool.
const TRIES_WITHOUT_PROOF: u32 = 3;

/// Faults by kind, and findings.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kinds: BTreeMap<String, Count>,
    /// Violated expectations, each with the path of a log.
    pub(crate) findings: Vec<String>,
    /// Peak memory in MiB, by program.
    pub(crate) peaks: BTreeMap<&'static str, u64>,
    /// Checked statements, true if they held.
    pub(crate) held: Vec<(String, bool)>,
}

#[derive(Debug, Default)]
struct Count {
    tried: u32,
    proved: u32,
}

impl Report {
    pub(crate) fn tried(&mut self, kind: String) {
        self.kinds.entry(kind).or_default().tried += 1;
    }

    pub(crate) fn proved(&mut self, kind: String) {
        self.kinds.entry(kind).or_default().proved += 1;
    }

    pub(crate) fn find(&mut self, what: String) {
        eprintln!("FINDING {what}");
        self.findings.push(what);
    }

    /// Records a statement. `otherwise` is the finding if it does not hold.
    pub(crate) fn hold(&mut self, statement: &str, otherwise: Option<String>) {
        self.held.push((statement.to_owned(), otherwise.is_none()));
        if let Some(what) = otherwise {
            self.find(format!("{statement}: {what}"));
        }
    }

    pub(crate) fn peak(&mut self, program: &'static str, mib: u64) {
        let most = self.peaks.entry(program).or_default();
        *most = (*most).max(mib);
    }

    /// Reports kinds of faults that were tried but never proved: a defect of this tool.
    pub(crate) fn blame_unproved(&mut self) {
        let unproved = self.kinds.iter().filter(|(_, count)| count.tried >= TRIES_WITHOUT_PROOF && count.proved == 0);
        let said: Vec<String> =
            unproved.map(|(kind, count)| format!("{kind}: injected {} times, never proved", count.tried)).collect();
        for what in said {
            self.find(what);
        }
    }

    pub(crate) fn print(&self) {
        println!("{}\n\n{}", self.faults(), self.statements());
        for (program, mib) in &self.peaks {
            println!("{program}: peak memory {mib} MiB");
        }
        match self.findings.len() {
            0 => println!("no findings"),
            count => println!("{count} findings:"),
        }
        for what in &self.findings {
            println!("- {what}");
        }
    }

    fn faults(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_header(["fault", "injected", "proved"]);
        for (kind, count) in &self.kinds {
            table.add_row([kind.clone(), count.tried.to_string(), count.proved.to_string()]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn statements(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_header(["check", "result"]);
        for (statement, holds) in &self.held {
            table.add_row([statement.as_str(), if *holds { "holds" } else { "FAILS" }]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_the_tools_own_finding() {
        let mut report = Report::default();
        for _ in 0..3 {
            report.tried("dud".to_owned());
            report.tried("real".to_owned());
        }
        report.proved("real".to_owned());
        report.tried("rare".to_owned());
        report.blame_unproved();
        assert_eq!(report.findings, ["dud: injected 3 times, never proved"]);
    }
}
