//! Runs Kafka, PostgreSQL and S3 on this machine, for the pipeline's programs and for inspection.

mod output;
mod produce;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use local_stack::Name;
use local_stack::resident::{Ports, Resident, State, Step};

use crate::produce::ProduceArguments;

/// Run Kafka, PostgreSQL and S3 as plain processes on this machine, without containers
///
/// The servers listen on 127.0.0.1 only, at the default addresses of event-generator and kafka-consumer. Data and logs
/// are in .local-stack/data in the repository. Install the servers with scripts/setup.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Folder for data, logs and pid files [default: .local-stack/data]
    #[arg(long, global = true, env = "LOCAL_STACK_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  local-stack up
  local-stack status
  local-stack logs kafka --follow
  local-stack down --purge

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 (status) a server does not run or respond.
Set LOCAL_STACK_DIR to use another folder than .local-stack for programs and data.";

const UP_EXAMPLES: &str = "\
Examples:
  local-stack up
  local-stack up --kafka-port 19092 --postgres-port 15433 --s3-port 19000";

const DOWN_EXAMPLES: &str = "\
Examples:
  local-stack down
  local-stack down --purge";

const STATUS_EXAMPLES: &str = "\
Examples:
  local-stack status
  local-stack status --data-dir /tmp/stack";

const LOGS_EXAMPLES: &str = "\
Examples:
  local-stack logs -n 20
  local-stack logs postgres --follow";

const PRODUCE_EXAMPLES: &str = "\
Examples:
  echo 'not JSON' | local-stack produce
  local-stack produce --partition 3 --key 42 < events.jsonl";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the servers that do not run, and wait until all three respond
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArguments),
    /// Stop all three servers
    #[command(after_help = DOWN_EXAMPLES)]
    Down {
        /// Also remove all data and logs
        #[arg(long)]
        purge: bool,
    },
    /// Print the state of each server; exit 3 unless all run and respond
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Print the logs of the servers
    #[command(after_help = LOGS_EXAMPLES)]
    Logs {
        /// Server [default: all three]
        server: Option<Server>,
        /// Number of lines from the end of each log
        #[arg(short = 'n', long, default_value_t = 50, value_name = "LINES")]
        lines: usize,
        /// Print new lines until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Send each line of standard input to Kafka as one record, such as an invalid event
    #[command(after_help = PRODUCE_EXAMPLES)]
    Produce(ProduceArguments),
}

#[derive(Debug, Clone, Copy, Args)]
struct UpArguments {
    /// Port of Kafka [default: 9092, or the port on which it runs]
    #[arg(long = "kafka-port", env = "LOCAL_STACK_KAFKA_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    kafka: Option<u16>,
    /// Port of PostgreSQL [default: 5433, or the port on which it runs]
    #[arg(long = "postgres-port", env = "LOCAL_STACK_POSTGRES_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    postgres: Option<u16>,
    /// Port of S3 [default: 9000, or the port on which it runs]
    #[arg(long = "s3-port", env = "LOCAL_STACK_S3_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    s3: Option<u16>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Server {
    Kafka,
    Postgres,
    S3,
}

impl From<Server> for Name {
    fn from(server: Server) -> Self {
        match server {
            Server::Kafka => Self::Kafka,
            Server::Postgres => Self::Postgres,
            Server::S3 => Self::S3,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let resident = Resident::new(arguments.data_dir);
    let result = match arguments.verb {
        Verb::Up(ports) => up(&resident, ports),
        Verb::Down { purge } => down(&resident, purge),
        Verb::Status => status(&resident),
        Verb::Logs { server, lines, follow } => {
            let names = server.map_or(Name::ALL.to_vec(), |server| vec![server.into()]);
            output::logs(&resident, &names, lines, follow).map(|()| ExitCode::SUCCESS)
        }
        Verb::Produce(arguments) => produce::produce(&resident, &arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        // The reader closed the pipe, as in `local-stack logs | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
        Ok(code) => code,
    }
}

fn up(resident: &Resident, ports: UpArguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let ports = Ports { kafka: ports.kafka, postgres: ports.postgres, s3: ports.s3 };
    resident.up(ports, |name, step| {
        let text = match step {
            Step::Starting => return,
            Step::Started(took) => format!("started in {}", output::seconds(took)),
            Step::RanAlready => "already running".to_owned(),
        };
        let _ = writeln!(io::stderr(), "{:<9} {text}", name.as_str());
    })?;
    output::addresses(resident, begun.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

fn down(resident: &Resident, purge: bool) -> anyhow::Result<ExitCode> {
    let stopped = resident.down(purge)?;
    let names: Vec<&str> = stopped.iter().map(|name| name.as_str()).collect();
    let text =
        if names.is_empty() { "no server was running".to_owned() } else { format!("stopped {}", names.join(", ")) };
    let fate = if purge { "data removed" } else { "data kept" };
    let _ = writeln!(io::stderr(), "{text}; {fate} ({})", output::short(resident.data()));
    Ok(ExitCode::SUCCESS)
}

fn status(resident: &Resident) -> anyhow::Result<ExitCode> {
    let all = resident.status()?;
    output::table(&all)?;
    let well = all.iter().all(|one| one.state == State::Running);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Interval at which `logs --follow` polls for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);
