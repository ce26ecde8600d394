//! Findings of the examination and their text.

use std::fmt;

use ::lake::LakeUrl;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Needs no action.
    Good,
    /// The pipeline runs, but is at risk or impaired.
    Warning,
    /// Stops the pipeline.
    Bad,
}

/// Outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// `kafka`, `postgresql`, `lake` or `machine`.
    pub(crate) area: &'static str,
    /// Name of the check.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// Result of the check.
    pub(crate) found: String,
    /// Remedy. `None` if the finding is good.
    pub(crate) fix: Option<String>,
}

/// Findings of one area.
pub(crate) struct Findings {
    area: &'static str,
    pub(crate) lines: Vec<Finding>,
}

impl Findings {
    pub(crate) fn of(area: &'static str) -> Self {
        Self { area, lines: Vec::new() }
    }

    pub(crate) fn put(
        &mut self,
        check: &'static str,
        severity: Severity,
        found: impl Into<String>,
        fix: Option<String>,
    ) {
        self.lines.push(Finding { area: self.area, check, severity, found: found.into(), fix });
    }

    pub(crate) fn good(&mut self, check: &'static str, found: impl Into<String>) {
        self.put(check, Severity::Good, found, None);
    }

    pub(crate) fn warn(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.put(check, Severity::Warning, found, Some(fix.into()));
    }

    pub(crate) fn bad(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.put(check, Severity::Bad, found, Some(fix.into()));
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Good => "ok  ",
            Severity::Warning => "WARN",
            Severity::Bad => "BAD ",
        };
        write!(f, "{mark} {:<10} {}: {}", self.area, self.check, self.found)?;
        self.fix.iter().try_for_each(|fix| write!(f, "\n                fix: {fix}"))
    }
}

pub(crate) fn place(url: &LakeUrl) -> String {
    url.to_string()
}
