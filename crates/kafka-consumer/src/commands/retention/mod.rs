//! `kafka-consumer retention`.

mod expired_partitions;
mod plan;

use std::io::{self, Write};
use std::ops::RangeInclusive;

use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::units::{TimeSpan, grouped};

use crate::commands::args::DatabaseArgs;
use crate::commands::retention::expired_partitions::ExpiredPartition;

#[derive(Args, Clone)]
pub(crate) struct RetentionArgs {
    /// Retention period, from 1d to 366000d, such as 90d: drop whole UTC days that are older, and insert no more events
    /// of those days
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = TimeSpan::within(RETENTIONS))]
    keep: TimeSpan,
    /// Print what would be dropped, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Range of `--keep`: one day to 366,000 days.
const RETENTIONS: RangeInclusive<TimeSpan> = TimeSpan::from_days(1)..=TimeSpan::from_days(366 * 1_000);

impl RetentionArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let keep = i64::try_from(self.keep.get().as_secs()).unwrap_or(i64::MAX);
        let mut client = self.database.connect_to_current("kafka-consumer retention").await?;
        if self.dry_run {
            let plan = plan::plan(&client, keep).await?;
            say(&format!("dry run, nothing changed: days before {} would be dropped", plan.floor))?;
            plan.doomed.iter().try_for_each(|one| say(&line("would drop", one)))?;
            return say(&total(&plan.doomed));
        }
        let mut said = Ok(());
        let gone = |one: &ExpiredPartition| {
            let saying = say(&line("dropped", one));
            if said.is_ok() {
                said = saying;
            }
        };
        let plan = plan::run(&mut client, keep, gone).await?;
        said?;
        say(&format!("days before {} are dropped; their events now count as expired", plan.floor))
    }
}

fn say(text: &str) -> Result<(), Failure> {
    unless_closed(writeln!(io::stdout(), "{text}").map_err(Into::into))
}

fn line(what: &str, one: &ExpiredPartition) -> String {
    format!("{what} staging.{} ({}, {})", one.name, rows(one.rows), size(one.bytes))
}

/// Sums up the partitions of a dry run. The number of rows is unknown if that of any partition is.
fn total(doomed: &[ExpiredPartition]) -> String {
    let bytes: i64 = doomed.iter().map(|one| one.bytes).sum();
    let count: Option<i64> = doomed.iter().map(|one| one.rows).sum();
    format!("in total {} days ({}, {})", doomed.len(), rows(count), size(bytes))
}

fn rows(count: Option<i64>) -> String {
    count.map_or_else(
        || "number of rows unknown".to_owned(),
        |count| format!("about {} rows", grouped(count.unsigned_abs())),
    )
}

fn size(bytes: i64) -> String {
    format!("{} MiB", grouped(bytes.div_euclid(1 << 20).unsigned_abs()))
}
