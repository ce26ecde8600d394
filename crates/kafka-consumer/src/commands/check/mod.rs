//! `kafka-consumer check`: runs data quality checks.

mod catalogue;
mod definition;
mod event_rules;
mod report;
mod runner;
mod visibility;

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::TimeSpan;
use tokio_postgres::error::SqlState;

use crate::commands::args::DatabaseArgs;
use crate::commands::check::definition::Severity;
use crate::commands::check::runner::{Report, Status};
use crate::postgres::describe;

#[derive(Args, Clone)]
pub(crate) struct CheckArgs {
    /// Folder with additional checks in .sql files; a check with the name of a built-in one replaces it
    #[arg(long, value_name = "FOLDER")]
    checks: Option<PathBuf>,
    /// Run only this check; repeatable, or separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Timeout of each check, from 1ms to 24d
    #[arg(long, value_name = "DURATION", default_value = "10m", allow_hyphen_values = true, value_parser = TimeSpan::within(TIMEOUTS))]
    timeout: TimeSpan,
    /// Do not store the results in the warehouse, which needs a writer's privileges
    #[arg(long)]
    no_save: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Timeouts that `statement_timeout` accepts: it is a 32-bit signed number of milliseconds, and 0 disables it.
const TIMEOUTS: RangeInclusive<TimeSpan> = TimeSpan::SHORTEST..=TimeSpan::from_days(24);

impl CheckArgs {
    pub(crate) async fn run(self, log: &LogArgs) -> Result<(), Failure> {
        let checks = catalogue::checks(self.checks.as_deref()).and_then(|all| catalogue::only(all, &self.only));
        let checks = checks.map_err(|error| Failure::usage(error.to_string()))?;
        let mut client = self.database.connect_to_current("kafka-consumer check").await?;
        let report = {
            let progress = Progress::new(log.shows_progress(), Some(checks.len() as u64), "checks");
            runner::run(&mut client, &checks, self.timeout.get(), &progress).await
        };
        let report = report.map_err(|error| anyhow!("cannot run the checks: {}", describe(&error)))?;
        self.say(&report)?;
        if !self.no_save {
            runner::keep(&mut client, &report).await.map_err(|error| match error.code() {
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    anyhow!(
                        "cannot store the results: {}; pass --no-save, or run as a pipeline_writer",
                        describe(&error)
                    )
                }
                _ => anyhow!("cannot store the results: {}", describe(&error)),
            })?;
        }
        check_outcome(&report)
    }

    fn say(&self, report: &Report) -> Result<(), Failure> {
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(report).context("cannot format the report as JSON")?)
        } else {
            report.to_string()
        };
        unless_closed(io::stdout().write_all(text.as_bytes()).map_err(Into::into))
    }
}

fn check_outcome(report: &Report) -> Result<(), Failure> {
    let failed = report.names(Status::Fail, Some(Severity::Error));
    if !failed.is_empty() {
        return Err(Failure::Difference(format!("checks failed: {}", failed.join(", "))));
    }
    let broken = report.names(Status::Broken, None);
    if !broken.is_empty() {
        return Err(anyhow!("cannot run checks: {}; correct their queries", broken.join(", ")).into());
    }
    Ok(())
}
