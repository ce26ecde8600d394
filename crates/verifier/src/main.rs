//! Command line of the verifier: verifies a run and prints the report.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use verifier::{LakeAt, Run, S3Access, Stores, Terms, fetch_run, verify};

const DEFAULT_LAKE: &str = "s3://product-events-lake";

/// Say from Kafka, lake and PostgreSQL alone whether a run landed as it should.
///
/// Exit code 0: every equation holds. 1: a store could not be read. 2: wrong usage. 3: an equation differs.
#[derive(Parser)]
#[command(version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Args {
    /// The run, by its manifest in the lake.
    #[arg(long, required_unless_present = "manifest", conflicts_with = "manifest")]
    run: Option<String>,
    /// The run, by a manifest in a file.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Verify the generator alone, without PostgreSQL.
    #[arg(long)]
    generator_only: bool,
    /// Leave out what is not of the run, and the group's own counts.
    #[arg(long)]
    run_only: bool,
    /// The run was resumed or sent again: allow identical copies in Kafka.
    #[arg(long)]
    copies: bool,
    /// Rows also came from the lake, by `kafka-consumer rebuild`.
    #[arg(long)]
    rebuilt: bool,
    /// The consumer group whose offsets and dead letters count.
    #[arg(long, default_value = "kafka-consumer")]
    group_id: String,
    /// Kafka.
    #[arg(long, default_value = "localhost:9092")]
    bootstrap_servers: String,
    /// PostgreSQL.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "postgres://admin:admin@localhost:5433/warehouse",
        hide_env_values = true
    )]
    database_url: String,
    /// `s3://bucket[/prefix]` or `file:///folder`. A lake other than the default one is opened by the standard AWS chain.
    #[arg(long, default_value = DEFAULT_LAKE)]
    lake: String,
    /// S3 endpoint of the local stack.
    #[arg(long, default_value = "http://localhost:9000")]
    s3_endpoint: String,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // An error of standard error itself cannot be reported.
            let _ = writeln!(io::stderr(), "verifier: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<bool> {
    let access = (args.lake == DEFAULT_LAKE).then(|| S3Access {
        endpoint: args.s3_endpoint,
        access_key: "local-stack".to_owned(),
        secret_key: "local-stack-secret".to_owned(),
        region: "us-east-1".to_owned(),
    });
    let lake = LakeAt::parse(&args.lake, access)?;
    let run = match (&args.manifest, &args.run) {
        (Some(path), _) => Run::read(path)?,
        (None, Some(id)) => fetch_run(&lake, id).with_context(|| format!("the manifest of run {id}"))?,
        (None, None) => anyhow::bail!("give --run or --manifest"),
    };
    let terms = Terms {
        group: (!args.generator_only).then_some(args.group_id),
        whole_topic: !args.run_only && !args.generator_only,
        copies: args.copies,
        rebuilt: args.rebuilt,
        ..Terms::generator_only()
    };
    let stores = Stores { bootstrap_servers: args.bootstrap_servers, database_url: args.database_url, lake };
    let report = verify(&stores, &run, &terms)?;
    match writeln!(io::stdout(), "{report}") {
        // The reader closed the pipe early; the exit code still reports the result.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(report.holds()),
    }
}
