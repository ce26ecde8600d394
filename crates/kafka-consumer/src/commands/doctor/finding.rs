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
    /// Action, as an imperative.
    pub(crate) tried: &'static str,
    pub(crate) severity: Severity,
    /// Result of the action.
    pub(crate) found: String,
    /// Remedy. `None` if the finding is good.
    pub(crate) mend: Option<String>,
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
        tried: &'static str,
        severity: Severity,
        found: impl Into<String>,
        mend: Option<String>,
    ) {
        self.lines.push(Finding { area: self.area, tried, severity, found: found.into(), mend });
    }

    pub(crate) fn good(&mut self, tried: &'static str, found: impl Into<String>) {
        self.put(tried, Severity::Good, found, None);
    }

    pub(crate) fn warn(&mut self, tried: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.put(tried, Severity::Warning, found, Some(mend.into()));
    }

    pub(crate) fn bad(&mut self, tried: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.put(tried, Severity::Bad, found, Some(mend.into()));
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Good => "ok  ",
            Severity::Warning => "WARN",
            Severity::Bad => "BAD ",
        };
        write!(f, "{mark} {:<10} {}: {}", self.area, self.tried, self.found)?;
        self.mend.iter().try_for_each(|mend| write!(f, "\n                mend: {mend}"))
    }
}

pub(crate) fn place(url: &LakeUrl) -> String {
    url.to_string()
}
