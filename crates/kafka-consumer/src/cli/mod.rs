//! The command line: a file for each command.

mod check;
mod dead_letters;
mod doctor;
mod offsets;
mod rebuild;
mod reconcile;
mod refine;
mod retention;
mod run;
mod status;
mod summary;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use event_model::Window;
use pipeline_runtime::environment::{completions, parse, with_variables};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::healthcheck::HealthcheckArgs;
use pipeline_runtime::output::{self, unless_closed};
use pipeline_runtime::telemetry::LogArgs;
use pipeline_runtime::units::TimeSpan;
use tokio_postgres::Client;

use crate::migrations::{self, Pending};
use crate::offsets::Claim;
use crate::postgres::{self, Target};
use crate::site::DEFAULT_ADDRESS;
use check::CheckArgs;
use dead_letters::DeadLettersCommand;
use doctor::DoctorArgs;
use offsets::OffsetsCommand;
use rebuild::RebuildArgs;
use reconcile::ReconcileArgs;
use refine::RefineArgs;
use retention::RetentionArgs;
use run::RunArgs;
use status::StatusArgs;

/// Inserts product events from Kafka into PostgreSQL, each one once.
///
/// Without a command it runs until Ctrl-C: it applies pending scripts, goes on from the offsets that PostgreSQL has,
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
    /// Look at the records that were refused, try them again, or let them go
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Show where the group goes on, or move it
    #[command(subcommand)]
    Offsets(OffsetsCommand),
    /// Account for every event of a run, over topic, lake, table and dead letters
    Reconcile(ReconcileArgs),
    /// Bring the features of users and accounts up to date
    Refine(RefineArgs),
    /// Look whether the data is as it should be: exit 3 where it is not
    Check(CheckArgs),
    /// Fill the table from the lake's Parquet files, what is there already stays
    Rebuild(RebuildArgs),
    /// Let days that are older than what is kept go from the table
    Retention(RetentionArgs),
    /// Try each dependency, right and setting, and say how to mend what is wrong
    Doctor(DoctorArgs),
    /// Ask a running consumer whether it is alive: exit 0 or 1, for supervisors and containers
    Healthcheck(HealthcheckArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Clone)]
#[command(next_help_heading = "PostgreSQL")]
struct DatabaseArgs {
    /// PostgreSQL connection string, a URI or keyword=value pairs; a service and PG* variables fill in the rest
    /// (default: the local stack's warehouse)
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

#[derive(Args, Clone)]
struct GroupArgs {
    /// The consumer group: whose offsets these are, in PostgreSQL and in Kafka
    #[arg(long, default_value = "kafka-consumer")]
    group_id: String,
}

/// The group and the topic, for what asks PostgreSQL alone.
#[derive(Args, Clone)]
struct ClaimArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// The topic of the events
    #[arg(long, default_value = "product-events")]
    topic: String,
}

/// How far events may lie from their records.
#[derive(Args, Clone)]
struct WindowArgs {
    /// Maximum age of an event before its record's timestamp, or before the present if it has none (400d, 36h, 90m)
    #[arg(long, value_name = "DURATION", default_value = "400d")]
    oldest_event: TimeSpan,
    /// Maximum time of an event after its record's timestamp, or after the present if that is earlier
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    newest_event: TimeSpan,
}

impl DatabaseArgs {
    fn target(&self) -> Result<Target, Failure> {
        let source = if self.database_url.is_some() { "--database-url: " } else { "" };
        postgres::resolve(self.database_url.as_deref()).map_err(|error| Failure::usage(format!("{source}{error}")))
    }

    /// A session of a warehouse that has all scripts.
    async fn connect_to_current(&self, name: &str) -> Result<Client, Failure> {
        let mut client = postgres::connect_at_start(&self.target()?.named(name)).await?;
        migrations::bring_up_to_date(&mut client, Pending::Refuse).await?;
        Ok(client)
    }
}

impl ClaimArgs {
    fn claim(&self) -> Claim {
        Claim { group: self.group.group_id.clone(), topic: self.topic.clone() }
    }
}

impl WindowArgs {
    fn window(&self) -> Window {
        Window { past: self.oldest_event.get(), future: self.newest_event.get(), present: None }
    }
}

/// Does what the command line asks.
pub fn main() -> Result<(), Failure> {
    let command = || with_variables(Cli::command(), "KAFKA_CONSUMER");
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
    // Whoever still asks a broker that is away need not be waited for.
    runtime.shutdown_background();
    done
}

async fn migrate(args: &DatabaseArgs) -> Result<(), Failure> {
    let target = args.target()?.named("kafka-consumer migrate");
    let mut client = postgres::connect_at_start(&target).await?;
    let applied = migrations::bring_up_to_date(&mut client, Pending::Apply).await?;
    if applied.is_empty() {
        return output::line(format_args!("{target} is up to date"));
    }
    applied.iter().try_for_each(|script| output::line(format_args!("{target}: applied {script}")))
}
