//! The command line.

use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use comfy_table::{CellAlignment, Table};
use event_model::Window;
use pipeline_runtime::environment::with_variables;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::shutdown;
use pipeline_runtime::telemetry::LogArgs;

use crate::batch::Limits;
use crate::migrations::{self, Pending};
use crate::offsets::Start;
use crate::pipeline::{self, Settings, Summary};
use crate::postgres::{self, Target};
use crate::status;

/// Inserts product events from Kafka into PostgreSQL, each one once.
///
/// Without a command it runs until Ctrl-C: it applies pending scripts, goes on from the offsets that PostgreSQL has,
/// and commits rows, dead letters and offsets together. Every flag can also be given as a variable, --group-id as
/// KAFKA_CONSUMER_GROUP_ID. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
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
    /// Show each partition's offset, lag and counts, and the dead letters by reason
    Status(StatusArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Clone)]
#[command(next_help_heading = "PostgreSQL")]
struct DatabaseArgs {
    /// The warehouse as a libpq URL; what it leaves open comes from PG* variables
    /// (the local stack's warehouse where neither is given)
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

#[derive(Args, Clone)]
struct GroupArgs {
    /// The consumer group: whose offsets these are, in PostgreSQL and in Kafka
    #[arg(long, default_value = "kafka-consumer")]
    group_id: String,
}

#[derive(Args, Clone)]
struct StatusArgs {
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
struct RunArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// Where a group begins that has never read the topic: beginning, end, or a time such as 2026-11-22T00:00:00Z
    #[arg(long, default_value = "beginning")]
    start: Start,
    /// End as soon as the end of every partition is reached
    #[arg(long)]
    until_caught_up: bool,
    /// Refuse to run when scripts are pending, instead of applying them
    #[arg(long)]
    no_migrate: bool,
    /// Print the configuration, secrets left out, and end
    #[arg(long)]
    print_config: bool,
    /// The oldest event that is accepted, before its record's own timestamp (400d, 36h, 90m)
    #[arg(long, value_name = "DURATION", default_value = "400d", value_parser = duration)]
    oldest_event: Duration,
    /// The newest event that is accepted, after its record's own timestamp
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration)]
    newest_event: Duration,
    /// Records in a transaction at most
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Bytes in a transaction at most
    #[arg(long, value_name = "BYTES", default_value_t = 8_388_608, value_parser = clap::value_parser!(u32).range(1_024..))]
    batch_bytes: u32,
    /// How long a record waits for others to fill its transaction
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    batch_interval: Duration,
    /// Sessions of PostgreSQL that write side by side, each with partitions of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    writers: u8,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A number with a unit: ms, s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("not a number with a unit (ms, s, m, h, d), such as 400d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a number with a unit, such as 400d".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

impl DatabaseArgs {
    fn target(&self) -> Result<Target, Failure> {
        Target::resolve(self.database_url.as_deref()).map_err(|error| Failure::usage(error.to_string()))
    }
}

impl RunArgs {
    fn settings(&self, log: &LogArgs) -> Result<Settings, Failure> {
        Ok(Settings {
            kafka: self.kafka.clone(),
            target: self.database.target()?.named("kafka-consumer"),
            group: self.group.group_id.clone(),
            start: self.start,
            limits: Limits {
                rows: self.batch_rows as usize,
                bytes: self.batch_bytes as usize,
                interval: self.batch_interval,
            },
            window: Window { past: self.oldest_event, future: self.newest_event },
            writers: usize::from(self.writers),
            until_caught_up: self.until_caught_up,
            pending: if self.no_migrate { Pending::Refuse } else { Pending::Apply },
            progress: log.shows_progress(),
        })
    }

    fn print_config(&self, settings: &Settings) -> Result<(), Failure> {
        println!("bootstrap-servers = {}", self.kafka.bootstrap_servers);
        println!("topic = {}", self.kafka.topic);
        println!("group-id = {}", settings.group);
        println!("start = {}", settings.start);
        println!("database = {}", settings.target);
        println!("migrate = {}", settings.pending == Pending::Apply);
        println!("until-caught-up = {}", settings.until_caught_up);
        println!("oldest-event = {}s", settings.window.past.as_secs());
        println!("newest-event = {}s", settings.window.future.as_secs());
        println!("batch-rows = {}", settings.limits.rows);
        println!("batch-bytes = {}", settings.limits.bytes);
        println!("batch-interval = {}ms", settings.limits.interval.as_millis());
        println!("writers = {}", settings.writers);
        for (name, value) in self.kafka.redacted_properties()? {
            println!("kafka-property = {name}={value}");
        }
        Ok(())
    }
}

/// Does what the command line asks.
pub fn main() -> Result<(), Failure> {
    let command = || with_variables(Cli::command(), "KAFKA_CONSUMER");
    let cli = Cli::from_arg_matches(&command().get_matches()).map_err(|error| Failure::usage(error.to_string()))?;
    cli.log.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(anyhow::anyhow!("no runtime: {error}")))?;
    let log = &cli.log;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(args) => run(&args, log).await,
            Command::Migrate(args) => migrate(&args).await,
            Command::Status(args) => {
                let run = RunArgs { group: args.group, kafka: args.kafka, database: args.database, ..defaults()? };
                status::print(&run.settings(log)?).await
            }
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut command(), "kafka-consumer", &mut std::io::stdout());
                Ok(())
            }
        }
    })
}

fn defaults() -> Result<RunArgs, Failure> {
    let matches = Cli::command().get_matches_from(["kafka-consumer"]);
    RunArgs::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()))
}

async fn run(args: &RunArgs, log: &LogArgs) -> Result<(), Failure> {
    let settings = args.settings(log)?;
    if args.print_config {
        return args.print_config(&settings);
    }
    let shutdown = shutdown::on_signal().map_err(|error| Failure::Failed(error.into()))?;
    let summary = pipeline::run(settings, shutdown).await?;
    eprintln!("{}", table(&summary));
    Ok(())
}

async fn migrate(args: &DatabaseArgs) -> Result<(), Failure> {
    let target = args.target()?.named("kafka-consumer migrate");
    let mut client = postgres::connect_at_start(&target).await?;
    let applied = migrations::bring_up_to_date(&mut client, Pending::Apply).await?;
    if applied.is_empty() {
        println!("{target} is up to date");
    }
    for script in applied {
        println!("{target}: applied {script}");
    }
    Ok(())
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    let tally = summary.tally;
    let seconds = summary.elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = if seconds > 0.0 { tally.records as f64 / seconds } else { 0.0 };
    let rows = [
        ("records committed", tally.records.to_string()),
        ("  rows inserted", tally.rows.to_string()),
        ("  duplicates", tally.duplicates.to_string()),
        ("    with other content", tally.duplicates_differing.to_string()),
        ("  dead letters", tally.dead_letters.to_string()),
        ("transactions", summary.batches.to_string()),
        ("retries", summary.retries.to_string()),
        ("time", format!("{seconds:.1} s")),
        ("records a second", format!("{rate:.0}")),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
