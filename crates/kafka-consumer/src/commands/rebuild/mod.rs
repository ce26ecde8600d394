//! `kafka-consumer rebuild`.

mod files;
mod loader;
mod loading;
mod outcome;
mod progress_log;

use anyhow::{Context, anyhow};
use clap::Args;
use event_model::{Hour, Timestamp};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::LakeArgs;
use pipeline_runtime::shutdown::ShutdownDeadline;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::{Count, grouped};

use crate::commands::args::DatabaseArgs;
use crate::commands::rebuild::loading::RebuildConfig;
use crate::commands::rebuild::outcome::{HourRange, RebuildOutcome, Refused};
use crate::commands::summary::{print, table_of};
use crate::postgres::migrations::Pending;

#[derive(Args, Clone)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// First UTC hour to load: 2026-11-22, 2026-11-22T10 or 2026-11-22T10:00:00Z [default: the oldest in the lake]
    #[arg(long, value_name = "HOUR", value_parser = hour)]
    from: Option<Hour>,
    /// First UTC hour not to load, in the same formats [default: none, load up to the newest]
    #[arg(long, value_name = "HOUR", value_parser = hour)]
    to: Option<Hour>,
    /// Number of PostgreSQL sessions that write in parallel, from 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, allow_hyphen_values = true, value_parser = pipeline_runtime::units::count_within::<u8>(1..=64))]
    writers: u8,
    /// Maximum number of rows per COPY, from 1 to 1M
    #[arg(long, value_name = "N", default_value = "30k", allow_hyphen_values = true, value_parser = Count::within(Count::new(1)..=Count::new(1_000_000)))]
    batch_rows: Count,
    /// Finish without damaged files: list them, and exit with code 3
    #[arg(long)]
    skip_damaged: bool,
    /// Fail if migrations are pending instead of applying them
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
        whole.parse().map_err(|_| "expected 2026-11-22, 2026-11-22T10 or 2026-11-22T10:00:00Z".to_owned())?;
    let hour = time.hour();
    if hour.start() == time { Ok(hour) } else { Err("expected a full hour, such as 2026-11-22T10:00:00Z".to_owned()) }
}

impl RebuildArgs {
    pub(crate) async fn run(self, log: &LogArgs) -> Result<(), Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Failure::usage("empty range of hours: --from must be earlier than --to"));
        }
        let settings = RebuildConfig {
            target: self.database.target()?,
            lake: self.lake.open().await?,
            hours: HourRange { from: self.from, to: self.to },
            writers: usize::from(self.writers),
            rows_at_once: usize::try_from(self.batch_rows.get()).unwrap_or(usize::MAX),
            skip_damaged: self.skip_damaged,
            pending: if self.no_migrate { Pending::Refuse } else { Pending::Apply },
            progress: log.shows_progress(),
        };
        let shutdown = ShutdownDeadline::on_signal(loader::GRACE).context("cannot install the signal handlers")?;
        let outcome = loading::run(settings, shutdown).await?;
        show(&outcome, log);
        check_outcome(&outcome, self.skip_damaged)
    }
}

fn show(outcome: &RebuildOutcome, log: &LogArgs) {
    if !log.is_text() {
        tracing::info!(
            files = outcome.files,
            files_before = outcome.files_before,
            files_left = outcome.files_left,
            files_damaged = outcome.damaged.count,
            files_unavailable = outcome.unavailable.count,
            rows = outcome.rows,
            duplicates = outcome.duplicates,
            duplicates_differing = outcome.differing,
            rows_outside = outcome.rows_outside,
            expired = outcome.expired,
            suppressed = outcome.suppressed,
            refused = outcome.refused,
            elapsed_seconds = outcome.elapsed.as_secs_f64(),
            "rebuild ended"
        );
    } else if log.quiet == 0 {
        print(&table_of(&[
            ("files loaded", grouped(outcome.files)),
            ("  by earlier attempts", grouped(outcome.files_before)),
            ("files remaining", grouped(outcome.files_left)),
            ("files damaged", grouped(outcome.damaged.count)),
            ("files unavailable", grouped(outcome.unavailable.count)),
            ("rows inserted", grouped(outcome.rows)),
            ("duplicates", grouped(outcome.duplicates)),
            ("  with different content", grouped(outcome.differing)),
            ("rows outside --from and --to", grouped(outcome.rows_outside)),
            ("rows expired by retention", grouped(outcome.expired)),
            ("rows suppressed by triggers", grouped(outcome.suppressed)),
            ("rows refused", grouped(outcome.refused)),
            ("elapsed time", format!("{:.1} s", outcome.elapsed.as_secs_f64())),
            ("rows per second", format!("{:.0}", per_second(outcome))),
        ]));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(outcome: &RebuildOutcome) -> f64 {
    (outcome.rows + outcome.duplicates) as f64 / outcome.elapsed.as_secs_f64().max(1e-6)
}

/// Fails with exit code 1 if a file or row is missing that another attempt may load, with exit code 3 if damaged files
/// were skipped.
fn check_outcome(outcome: &RebuildOutcome, skip_damaged: bool) -> Result<(), Failure> {
    let mut problems = Vec::new();
    if outcome.files_left > 0 {
        let files = if outcome.files_left == 1 { "file remains" } else { "files remain" };
        problems.push(format!("{} {files}; run the same command again to continue", outcome.files_left));
    }
    if outcome.unavailable.count > 0 {
        let files = &outcome.unavailable;
        problems.push(format!("cannot fetch {files}; run the same command again once they can be fetched"));
    }
    if outcome.damaged.count > 0 && !skip_damaged {
        let files = &outcome.damaged;
        problems.push(format!("cannot read {files}; restore them, or pass --skip-damaged to finish without them"));
    } else if outcome.damaged.count > 0 && !problems.is_empty() {
        problems.push(format!("skipped {}", outcome.damaged));
    }
    if let Some(Refused { key, row, reason }) = &outcome.first_refused {
        let count = outcome.refused;
        problems.push(format!("{count} rows were refused, first row {row} of {key}: {reason}"));
    }
    if !problems.is_empty() {
        let rest = if outcome.files_left == 0 { "; all other rows are loaded" } else { "" };
        return Err(anyhow!("{}{rest}", problems.join("; ")).into());
    }
    if outcome.damaged.count > 0 {
        let skipped = format!("skipped {}; restore them and run the command again to load their rows", outcome.damaged);
        return Err(Failure::Difference(skipped));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: &RebuildOutcome, skip_damaged: bool) -> (u8, String) {
        match check_outcome(outcome, skip_damaged) {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.code(), failure.to_string()),
        }
    }

    #[test]
    fn only_a_complete_rebuild_is_a_success() {
        assert_eq!(end(&RebuildOutcome::default(), false), (0, String::new()));
        let (code, error) = end(&RebuildOutcome { files_left: 1, ..RebuildOutcome::default() }, true);
        assert_eq!(code, 1);
        assert!(error.starts_with("1 file remains; run the same command again to continue"), "{error}");
        let refused = Refused { key: "raw/a".to_owned(), row: 7, reason: "no".to_owned() };
        let outcome =
            RebuildOutcome { files_left: 2, refused: 3, first_refused: Some(refused), ..RebuildOutcome::default() };
        let (code, error) = end(&outcome, true);
        assert_eq!(code, 1);
        assert!(error.contains("2 files remain; ") && error.contains("row 7 of raw/a: no"), "{error}");
    }

    #[test]
    fn damaged_files_are_a_failure_unless_they_may_be_skipped() {
        let mut outcome = RebuildOutcome::default();
        outcome.damaged.add("raw/a", "it ends early".to_owned());
        let (code, error) = end(&outcome, false);
        assert_eq!(code, 1);
        assert!(error.contains("raw/a: it ends early") && error.contains("--skip-damaged"), "{error}");
        let (code, error) = end(&outcome, true);
        assert_eq!(code, 3);
        assert!(error.starts_with("skipped 1 file (raw/a: it ends early); restore them"), "{error}");
        outcome.unavailable.add("raw/b", "denied".to_owned());
        let (code, error) = end(&outcome, true);
        assert_eq!(code, 1);
        assert!(error.starts_with("cannot fetch 1 file (raw/b: denied); "), "{error}");
        assert!(error.contains("raw/a"), "{error}");
    }
}
