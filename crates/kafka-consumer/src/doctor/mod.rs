//! Each dependency, right and setting: what was tried, what came back, how to mend it.

mod kafka;
mod lake;
mod machine;
mod postgres;

use std::fmt;

use ::lake::LakeUrl;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use rdkafka::config::ClientConfig;
use serde::Serialize;

use crate::memory::Memory;
use crate::offsets::Claim;
use crate::postgres::Target;

/// What is looked at.
pub struct Settings {
    /// Kafka.
    pub kafka: KafkaArgs,
    /// Its client's configuration.
    pub client: ClientConfig,
    /// Whose offsets of which topic.
    pub claim: Claim,
    /// The warehouse.
    pub target: Target,
    /// Sessions that a run would open.
    pub writers: usize,
    /// What a run may take.
    pub memory: Memory,
    /// The lake; none where it is not looked at.
    pub lake: Option<LakeArgs>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Good,
    /// It runs, but not for long, or not as well as it could.
    Warning,
    /// It stops the pipeline.
    Bad,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `kafka`, `postgresql`, `lake` or `machine`.
    pub area: &'static str,
    /// What was tried.
    pub tried: &'static str,
    /// How bad what came back is.
    pub severity: Severity,
    /// What came back.
    pub found: String,
    /// How to mend it.
    pub mend: Option<String>,
}

/// What was found in one area.
struct Lines {
    area: &'static str,
    lines: Vec<Line>,
}

impl Lines {
    fn of(area: &'static str) -> Self {
        Self { area, lines: Vec::new() }
    }

    fn put(&mut self, tried: &'static str, severity: Severity, found: impl Into<String>, mend: Option<String>) {
        self.lines.push(Line { area: self.area, tried, severity, found: found.into(), mend });
    }

    fn good(&mut self, tried: &'static str, found: impl Into<String>) {
        self.put(tried, Severity::Good, found, None);
    }

    fn warn(&mut self, tried: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.put(tried, Severity::Warning, found, Some(mend.into()));
    }

    fn bad(&mut self, tried: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.put(tried, Severity::Bad, found, Some(mend.into()));
    }
}

/// Looks at everything. What is away is one of the findings.
pub async fn run(settings: &Settings) -> Vec<Line> {
    let lake = async {
        match &settings.lake {
            Some(lake) => lake::examine(lake).await,
            None => Vec::new(),
        }
    };
    let (kafka, warehouse, lake) = tokio::join!(kafka::examine(settings), postgres::examine(settings), lake);
    let (kafka, positions) = kafka;
    let mut lines = kafka;
    lines.extend(warehouse.lines);
    // Where both answered: what retention will take before it is read.
    lines.extend(kafka::retention_against_lag(&positions, &warehouse.offsets));
    lines.extend(lake);
    lines.extend(machine::examine(settings, warehouse.clock_ahead));
    lines
}

impl fmt::Display for Line {
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

/// An address for people.
fn place(url: &LakeUrl) -> String {
    url.to_string()
}
