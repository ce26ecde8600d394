//! `kafka-consumer refine`.

mod refinement;
mod statements;

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use event_model::Timestamp;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown::ShutdownDeadline;
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::{TimeSpan, grouped};
use tokio::time::{MissedTickBehavior, interval};

use crate::commands::args::DatabaseArgs;
use crate::postgres;
use crate::postgres::fault::{SqlFault, classify};
use crate::postgres::migrations::{self, Pending};
pub use refinement::{RefineError, Refined, Request, refine};

#[derive(Args, Clone)]
pub(crate) struct RefineArgs {
    /// End of the feature windows, such as 2026-11-22T00:00:00Z; later events are excluded [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "every")]
    as_of: Option<Timestamp>,
    /// Repeat until Ctrl-C at this interval, from 1s to 366d [default: refine once]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = TimeSpan::within(INTERVALS))]
    every: Option<TimeSpan>,
    /// Recompute all features from the table, including rows changed by hand; reads the whole table
    #[arg(long, conflicts_with = "every")]
    all: bool,
    /// Print the outcome as JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Range of `--every`: one second to 366 days.
const INTERVALS: RangeInclusive<TimeSpan> = TimeSpan::from_secs(1)..=TimeSpan::from_days(366);

impl RefineArgs {
    pub(crate) async fn run(self, log: &LogArgs) -> Result<(), Failure> {
        let request = Request { as_of: self.as_of, all: self.all };
        let mut client = self.database.connect_to_current("kafka-consumer refine").await?;
        let Some(every) = self.every else {
            let progress = Progress::elapsed(log.shows_progress(), "computing features");
            let refined = refine(&mut client, request).await.map_err(|error| Failure::Failed(error.into()))?;
            drop(progress);
            return self.say(&refined);
        };
        drop(client);
        let shutdown = ShutdownDeadline::on_signal(Duration::ZERO).context("cannot install the signal handlers")?;
        let mut ticks = interval(every.get());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested() => return Ok(()),
            }
            tokio::select! {
                // An interrupted refinement is rolled back; the next one does its work.
                () = shutdown.requested() => return Ok(()),
                round = self.round(request) => round?,
            }
        }
    }

    /// Runs one refinement in a new session. A transient error is logged and left to the next round.
    async fn round(&self, request: Request) -> Result<(), Failure> {
        let target = self.database.target()?.named("kafka-consumer refine");
        let refined = async {
            let mut client = postgres::connect(&target).await?;
            migrations::bring_up_to_date(&mut client, Pending::Refuse).await.map_err(Round::Schema)?;
            Ok(refine(&mut client, request).await?)
        };
        match refined.await {
            Ok(refined) => self.say(&refined),
            Err(Round::Refine(error)) if passes(&error) => {
                tracing::warn!(error = error.to_string(), "refinement failed, retried at the next interval");
                Ok(())
            }
            Err(Round::Refine(error)) => Err(Failure::Failed(error.into())),
            Err(Round::Schema(failure)) => Err(failure),
        }
    }

    fn say(&self, refined: &Refined) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(refined).context("cannot format the outcome as JSON")?
        } else {
            format!(
                "refined as of {} in {:.1} s\n  hours recomputed {}, users changed {}/{}, accounts changed {}/{}",
                refined.as_of,
                refined.seconds,
                grouped(refined.hours_remade),
                grouped(refined.users_changed),
                grouped(refined.users),
                grouped(refined.accounts_changed),
                grouped(refined.accounts)
            )
        };
        unless_closed(writeln!(io::stdout(), "{line}").map_err(Into::into))
    }
}

/// Error that ended a round.
enum Round {
    Refine(RefineError),
    Schema(Failure),
}

impl From<RefineError> for Round {
    fn from(error: RefineError) -> Self {
        Self::Refine(error)
    }
}

impl From<tokio_postgres::Error> for Round {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refine(error.into())
    }
}

fn passes(error: &RefineError) -> bool {
    match error {
        RefineError::Busy(_) => true,
        RefineError::Denied(_) => false,
        RefineError::Postgres(error) => classify(error) == SqlFault::Retry,
    }
}
