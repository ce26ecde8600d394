//! Runs Kafka, PostgreSQL and S3 on this machine, for the pipeline's programs and for inspection.

mod output;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use local_stack::Name;
use local_stack::resident::{Ports, Resident, State, Step};

/// Runs Kafka, PostgreSQL and an S3 as plain processes of this machine, without containers.
///
/// They listen on 127.0.0.1 only, where event-generator and kafka-consumer look for them by default. Data and logs are in
/// .local-stack/data in the repository. scripts/setup fetches the servers' programs.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Keeps data, logs and pid files in this folder instead of .local-stack/data.
    #[arg(long, global = true, env = "LOCAL_STACK_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 3 (status) not all three run and answer.
LOCAL_STACK_DIR names another folder than .local-stack, for the fetched programs and for data.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start what does not run, and wait until all three answer.
    Up(UpArguments),
    /// Stop all three.
    Down {
        /// Also remove all their data and logs.
        #[arg(long)]
        purge: bool,
    },
    /// Show how the three are; exit status 3 unless all run and answer.
    Status,
    /// Show what a server writes.
    Logs {
        /// Which server; all three when left out.
        server: Option<Server>,
        /// How many of the last lines.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "LINES")]
        lines: usize,
        /// Go on with new lines until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, Clone, Copy, Args)]
struct UpArguments {
    /// Kafka's port [default: 9092, or where it runs]
    #[arg(long = "kafka-port", env = "LOCAL_STACK_KAFKA_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    kafka: Option<u16>,
    /// PostgreSQL's port [default: 5433, or where it runs]
    #[arg(long = "postgres-port", env = "LOCAL_STACK_POSTGRES_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    postgres: Option<u16>,
    /// S3's port [default: 9000, or where it runs]
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
    };
    match result {
        // The reader closed the pipe, as in `local-stack logs | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "local-stack: {error:#}");
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
            Step::RanAlready => "runs already".to_owned(),
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
        if names.is_empty() { "nothing was running".to_owned() } else { format!("stopped {}", names.join(", ")) };
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
