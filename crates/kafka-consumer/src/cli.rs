//! Parses the command line and dispatches to the commands.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use pipeline_runtime::environment::{completions, parse, with_variables};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::healthcheck::HealthcheckArgs;
use pipeline_runtime::telemetry::LogArgs;

use crate::commands::args::DatabaseArgs;
use crate::commands::check::CheckArgs;
use crate::commands::dead_letters::DeadLettersCommand;
use crate::commands::doctor::DoctorArgs;
use crate::commands::migrate::migrate;
use crate::commands::offsets::OffsetsCommand;
use crate::commands::rebuild::RebuildArgs;
use crate::commands::reconcile::ReconcileArgs;
use crate::commands::refine::RefineArgs;
use crate::commands::retention::RetentionArgs;
use crate::commands::run::RunArgs;
use crate::commands::status::StatusArgs;
use crate::observability::endpoints::DEFAULT_ADDRESS;

/// Inserts product events from Kafka into PostgreSQL, each one once.
///
/// Without a command it runs until Ctrl-C: it applies pending scripts, resumes from the offsets in PostgreSQL,
/// and commits rows, dead letters and offsets together. Every flag can also be given as a variable, --group-id as
/// KAFKA_CONSUMER_GROUP_ID. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration,
/// 3 a check found a difference.
#[derive(Parser)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
#[command(name = "kafka-consumer", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Read and insert until Ctrl-C (the default)
    Run(RunArgs),
    /// Apply the pending scripts of the warehouse
    Migrate(DatabaseArgs),
    /// Show each partition's offset, lag and counts, the dead letters by reason, and the latency
    Status(StatusArgs),
    /// List, show, replay, discard or export dead letters
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Show or set the group's offsets
    #[command(subcommand)]
    Offsets(OffsetsCommand),
    /// Account for every event of a run, over topic, lake, table and dead letters
    Reconcile(ReconcileArgs),
    /// Bring the features of users and accounts up to date
    Refine(RefineArgs),
    /// Run data quality checks; exit 3 if any fails
    Check(CheckArgs),
    /// Load the lake's Parquet files into the table; existing rows stay
    Rebuild(RebuildArgs),
    /// Drop daily partitions older than the retention period
    Retention(RetentionArgs),
    /// Check dependencies, privileges and settings, and suggest fixes
    Doctor(DoctorArgs),
    /// Ask a running consumer whether it is alive: exit 0 or 1, for supervisors and containers
    Healthcheck(HealthcheckArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Returns the definition of the command line, for parsing and for the reference.
#[must_use]
pub fn command() -> clap::Command {
    with_variables(Cli::command(), "KAFKA_CONSUMER")
}

/// Parses the command line and runs the command.
pub fn main() -> Result<(), Failure> {
    let Some(matches) = parse(command())? else { return Ok(()) };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()))?;
    cli.log.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(anyhow::anyhow!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(args) => args.run(&cli.log).await,
            Command::Migrate(args) => migrate(&args).await,
            Command::Status(args) => args.run().await,
            Command::DeadLetters(command) => command.run().await,
            Command::Offsets(command) => command.run().await,
            Command::Reconcile(args) => args.run().await,
            Command::Refine(args) => args.run().await,
            Command::Check(args) => args.run().await,
            Command::Rebuild(args) => args.run(&cli.log).await,
            Command::Retention(args) => args.run().await,
            Command::Doctor(args) => args.run().await,
            Command::Healthcheck(args) => args.run(DEFAULT_ADDRESS).await,
            Command::Completions { shell } => completions(shell, &mut command(), "kafka-consumer"),
        }
    });
    // Blocking calls to an unavailable broker may still be running; dropping the runtime would wait for them.
    runtime.shutdown_background();
    done
}
