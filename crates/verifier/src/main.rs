//! Command line of the verifier: verifies a run and prints the report.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use verifier::{LakeAt, Run, S3Access, Stores, Terms, fetch_run, verify};

const DEFAULT_BUCKET: &str = "product-events-lake";
const DEFAULT_LAKE: &str = "s3://product-events-lake";

/// Verify from the contents of Kafka, the lake and PostgreSQL alone that a run is stored completely and once
#[derive(Parser)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
#[command(version, max_term_width = 110, after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Args {
    /// Run to verify, by its manifest in the lake; this or --manifest is required
    #[arg(long, required_unless_present = "manifest", conflicts_with = "manifest")]
    run: Option<String>,
    /// Run to verify, by a manifest file
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Verify the generator only, without PostgreSQL
    #[arg(long)]
    generator_only: bool,
    /// Ignore other records of the topic and the counts of the group
    #[arg(long)]
    run_only: bool,
    /// Allow identical copies in Kafka, for a run that was resumed or published again
    #[arg(long)]
    copies: bool,
    /// Allow rows that 'kafka-consumer rebuild' loaded from the lake
    #[arg(long)]
    rebuilt: bool,
    /// Consumer group whose offsets and dead letters are verified
    #[arg(long, value_name = "GROUP", default_value = "kafka-consumer")]
    group_id: String,
    /// Bootstrap servers of the Kafka cluster, separated by commas
    #[arg(long, value_name = "HOST:PORT,…", default_value = "localhost:9092")]
    bootstrap_servers: String,
    /// PostgreSQL connection string
    #[arg(
        long,
        value_name = "URL",
        env = "DATABASE_URL",
        default_value = "postgres://admin:admin@localhost:5433/warehouse",
        hide_env_values = true
    )]
    database_url: String,
    /// Address of the lake: s3://bucket/prefix, with the standard AWS chain unless it is the default, or file:///folder
    #[arg(long, value_name = "URL", default_value = DEFAULT_LAKE, value_parser = |url: &str| LakeAt::parse(url, None))]
    lake: LakeAt,
    /// S3 endpoint of the local stack, for the default lake
    #[arg(long, value_name = "URL", default_value = "http://localhost:9000")]
    s3_endpoint: String,
}

const AFTER_HELP: &str = "\
Examples:
  verifier --run 5a52d93c6
  verifier --run 5a52d93c6 --generator-only
  verifier --manifest manifest.json --lake file:///tmp/lake --run-only

Exit codes: 0 every equation holds, 1 a store cannot be read, 2 wrong usage, 3 an equation differs.";

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            // An error of standard error itself cannot be reported.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<bool> {
    let mut lake = args.lake;
    if let LakeAt::S3 { bucket, prefix, access } = &mut lake
        && (bucket.as_str(), prefix.as_str()) == (DEFAULT_BUCKET, "")
    {
        *access = Some(S3Access {
            endpoint: args.s3_endpoint,
            access_key: "local-stack".to_owned(),
            secret_key: "local-stack-secret".to_owned(),
            region: "us-east-1".to_owned(),
        });
    }
    let run = match (&args.manifest, &args.run) {
        (Some(path), _) => Run::read(path)?,
        (None, Some(id)) => fetch_run(&lake, id).with_context(|| format!("cannot fetch the manifest of run {id}"))?,
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
