//! `kafka-consumer rebuild`.

use std::io::{self, Write};

use anyhow::{Context, anyhow};
use clap::Args;
use event_model::{Hour, Timestamp};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::LakeArgs;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::{progress, shutdown};

use super::DatabaseArgs;
use super::summary::table_of;
use crate::migrations::Pending;
use crate::rebuild::{self, Hours, Outcome, Refused, Settings};

#[derive(Args, Clone)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The first hour, as 2026-11-22, 2026-11-22T10 or 2026-11-22T10:00:00Z [default: the oldest in the lake]
    #[arg(long, value_name = "HOUR", value_parser = hour)]
    from: Option<Hour>,
    /// The first hour that is left out again [default: all hours to the newest]
    #[arg(long, value_name = "HOUR", value_parser = hour)]
    to: Option<Hour>,
    /// Sessions of PostgreSQL that write side by side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    writers: u8,
    /// Rows in a COPY at most
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Refuse to go on where scripts are pending, instead of applying them
    #[arg(long)]
    no_migrate: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn hour(text: &str) -> Result<Hour, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        _ => text.to_owned(),
    };
    let time: Timestamp =
        whole.parse().map_err(|_| "write it as 2026-11-22, 2026-11-22T10 or 2026-11-22T10:00:00Z".to_owned())?;
    let hour = time.hour();
    if hour.start() == time { Ok(hour) } else { Err("not the beginning of an hour".to_owned()) }
}

impl RebuildArgs {
    pub(super) async fn run(self, log: &LogArgs) -> Result<(), Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Failure::usage("--from is not before --to"));
        }
        let settings = Settings {
            target: self.database.target()?,
            lake: self.lake.open().await?,
            hours: Hours { from: self.from, to: self.to },
            writers: usize::from(self.writers),
            rows_at_once: usize::try_from(self.batch_rows).unwrap_or(usize::MAX),
            pending: if self.no_migrate { Pending::Refuse } else { Pending::Apply },
            progress: log.shows_progress(),
        };
        let shutdown = shutdown::on_signal().context("signals can't be received")?;
        let outcome = rebuild::run(settings, shutdown).await?;
        show(&outcome, log);
        verdict(&outcome)
    }
}

fn show(outcome: &Outcome, log: &LogArgs) {
    if !log.is_text() {
        tracing::info!(
            files = outcome.files,
            files_before = outcome.files_before,
            files_left = outcome.files_left,
            rows = outcome.rows,
            duplicates = outcome.duplicates,
            duplicates_differing = outcome.differing,
            expired = outcome.expired,
            suppressed = outcome.suppressed,
            refused = outcome.refused,
            elapsed_seconds = outcome.elapsed.as_secs_f64(),
            "rebuild ended"
        );
    } else if log.quiet == 0 {
        let table = table_of(&[
            ("files that are in", outcome.files.to_string()),
            ("  from an earlier attempt", outcome.files_before.to_string()),
            ("rows inserted", outcome.rows.to_string()),
            ("rows that were there", outcome.duplicates.to_string()),
            ("  with other content", outcome.differing.to_string()),
            ("rows of days that are gone", outcome.expired.to_string()),
            ("rows suppressed by triggers", outcome.suppressed.to_string()),
            ("rows refused", outcome.refused.to_string()),
            ("time", format!("{:.1} s", outcome.elapsed.as_secs_f64())),
            ("rows a second", format!("{:.0}", per_second(outcome))),
        ]);
        // There is nobody left to tell if stderr is gone.
        let _ = progress::above(|| writeln!(io::stderr(), "{table}"));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(outcome: &Outcome) -> f64 {
    (outcome.rows + outcome.duplicates) as f64 / outcome.elapsed.as_secs_f64().max(1e-6)
}

fn verdict(outcome: &Outcome) -> Result<(), Failure> {
    if outcome.files_left > 0 {
        return Err(anyhow!("{} files are left; the same command goes on with them", outcome.files_left).into());
    }
    match &outcome.first_refused {
        None => Ok(()),
        Some(Refused { key, row, reason }) => Err(anyhow!(
            "{} rows were refused, the first of them row {row} of {key}: {reason}; all others are in",
            outcome.refused
        )
        .into()),
    }
}
