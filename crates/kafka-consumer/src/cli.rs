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
use crate::commands::distribute::DistributeArgs;
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

/// Load product events from Kafka into PostgreSQL, effectively once
///
/// Without a command, consume until Ctrl-C: apply pending migrations, resume from the offsets in PostgreSQL, and commit
/// rows, dead letters and offsets together. By default, use the local stack, which 'cargo run -p local-stack -- up'
/// starts.
#[derive(Parser)]
#[command(name = "kafka-consumer", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
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
    /// Consume until Ctrl-C (the default command)
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Apply pending migrations to the warehouse
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(DatabaseArgs),
    /// Show offset, lag and counts of each partition, dead letters by reason, and latency
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// List, show, replay, export or discard dead letters
    #[command(subcommand, after_help = DEAD_LETTERS_EXAMPLES)]
    DeadLetters(DeadLettersCommand),
    /// Show or set the offsets of a consumer group
    #[command(subcommand, after_help = OFFSETS_EXAMPLES)]
    Offsets(OffsetsCommand),
    /// Compare the events of a run with the topic, the lake, the table and the dead letters; exit 3 if any differ
    #[command(after_help = RECONCILE_EXAMPLES)]
    Reconcile(ReconcileArgs),
    /// Update the features of users and accounts
    #[command(after_help = REFINE_EXAMPLES)]
    Refine(RefineArgs),
    /// Run data quality checks; exit 3 if any fails
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Load the Parquet files of the lake into the table, and keep existing rows
    #[command(after_help = REBUILD_EXAMPLES)]
    Rebuild(RebuildArgs),
    /// Drop daily table partitions older than the retention period
    #[command(after_help = RETENTION_EXAMPLES)]
    Retention(RetentionArgs),
    /// Distribute the table over the workers of a Citus cluster
    #[command(after_help = DISTRIBUTE_EXAMPLES)]
    Distribute(DistributeArgs),
    /// Check dependencies, privileges and settings, and suggest fixes; exit 3 if the pipeline cannot run
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Query a probe of a running consumer; exit 0 if it passes, else 1
    #[command(after_help = HEALTHCHECK_EXAMPLES)]
    Healthcheck(HealthcheckArgs),
    /// Print a shell completion script
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell that reads the script
        shell: Shell,
    },
}

const EXAMPLES: &str = "\
Examples:
  # Consume until Ctrl-C
  kafka-consumer
  # Consume to the ends of the partitions, then exit
  kafka-consumer --until-caught-up
  # Show offsets, lag and dead letters
  kafka-consumer status
  # Check dependencies, privileges and settings
  kafka-consumer doctor --no-lake

Each flag has an environment variable: --group-id is KAFKA_CONSUMER_GROUP_ID.
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 a check found a difference.";

const RUN_EXAMPLES: &str = "\
Examples:
  kafka-consumer run
  kafka-consumer run --until-caught-up --group-id backfill
  kafka-consumer run --bootstrap-servers kafka:9092 --kafka-config kafka.conf";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  kafka-consumer migrate
  kafka-consumer migrate --database-url postgres://owner@db/warehouse";

const STATUS_EXAMPLES: &str = "\
Examples:
  kafka-consumer status
  kafka-consumer status --json";

const DEAD_LETTERS_EXAMPLES: &str = "\
Examples:
  kafka-consumer dead-letters list
  kafka-consumer dead-letters replay --dry-run";

const OFFSETS_EXAMPLES: &str = "\
Examples:
  kafka-consumer offsets show
  kafka-consumer offsets set --to-latest --dry-run";

const RECONCILE_EXAMPLES: &str = "\
Examples:
  kafka-consumer reconcile --run demo
  kafka-consumer reconcile --manifest demo.json --only kafka,table";

const REFINE_EXAMPLES: &str = "\
Examples:
  kafka-consumer refine
  kafka-consumer refine --every 5m
  kafka-consumer refine --as-of 2026-11-22T00:00:00Z --json";

const CHECK_EXAMPLES: &str = "\
Examples:
  kafka-consumer check
  kafka-consumer check --only freshness,rows_counted --json
  kafka-consumer check --checks ./checks --no-save";

const REBUILD_EXAMPLES: &str = "\
Examples:
  kafka-consumer rebuild
  kafka-consumer rebuild --lake s3://events --from 2026-11-22 --to 2026-11-23";

const RETENTION_EXAMPLES: &str = "\
Examples:
  kafka-consumer retention --keep 90d --dry-run
  kafka-consumer retention --keep 90d";

const DISTRIBUTE_EXAMPLES: &str = "\
Examples:
  kafka-consumer distribute --shards 32 --dry-run
  kafka-consumer distribute --shards 32 --database-url postgres://owner@coordinator/warehouse";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  kafka-consumer doctor --no-lake
  kafka-consumer doctor --writers 8 --memory-limit 1GiB --json";

const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  kafka-consumer healthcheck
  kafka-consumer healthcheck --ready --http-addr 127.0.0.1:9464";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  kafka-consumer completions bash > ~/.local/share/bash-completion/completions/kafka-consumer
  kafka-consumer completions zsh > ~/.zfunc/_kafka-consumer";

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
    let runtime =
        runtime.map_err(|error| Failure::Failed(anyhow::anyhow!("cannot start the async runtime: {error}")))?;
    let done = runtime.block_on(async {
        match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(args) => args.run(&cli.log).await,
            Command::Migrate(args) => migrate(&args).await,
            Command::Status(args) => args.run().await,
            Command::DeadLetters(command) => command.run().await,
            Command::Offsets(command) => command.run().await,
            Command::Reconcile(args) => args.run(&cli.log).await,
            Command::Refine(args) => args.run(&cli.log).await,
            Command::Check(args) => args.run(&cli.log).await,
            Command::Rebuild(args) => args.run(&cli.log).await,
            Command::Retention(args) => args.run().await,
            Command::Distribute(args) => args.run().await,
            Command::Doctor(args) => args.run().await,
            Command::Healthcheck(args) => args.run(DEFAULT_ADDRESS).await,
            Command::Completions { shell } => completions(shell, &mut command(), "kafka-consumer"),
        }
    });
    // Blocking calls to an unavailable broker may still be running; dropping the runtime would wait for them.
    runtime.shutdown_background();
    done
}
