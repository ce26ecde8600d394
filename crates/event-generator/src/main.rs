//! The program's entry: parses, starts the log, calls, and maps the result to an exit code.

use std::io::stdout;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use event_generator::commands::run::args::{Cli, Command, DescribeArgs, RunArgs, SampleArgs};
use event_generator::commands::run::{self, config as plan, resume_flags as recall};
use event_generator::commands::{describe, sample};
use event_generator::observability::endpoints as site;
use event_generator::pipeline::block_plan::Clock;
use pipeline_runtime::environment::{completions, parse, with_variables};
use pipeline_runtime::exit::{self, Failure};
use pipeline_runtime::telemetry::LogArgs;

/// librdkafka's malloc as well: it makes a record in one thread and frees it in another, which glibc's is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NO_RUNTIME: &str = "the runtime could not be started";

fn main() {
    exit::run("no event is lost: `event-generator --resume --run-id RUN` continues the run", || {
        let Some(matches) = parse(with_variables(Cli::command(), "EVENT_GENERATOR"))? else { return Ok(()) };
        match Cli::from_arg_matches(&matches) {
            Ok(cli) => start(&cli, &matches),
            Err(error) => error.exit(),
        }
    })
}

fn start(cli: &Cli, matches: &ArgMatches) -> Result<(), Failure> {
    match &cli.command {
        None => publish(&cli.run, matches, &cli.log),
        Some(Command::Run(args)) => {
            publish(args, matches.subcommand().map_or(matches, |(_, matches)| matches), &cli.log)
        }
        Some(Command::Sample(args)) => print_sample(args),
        Some(Command::Describe(args)) => print_description(args),
        Some(Command::Healthcheck(args)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context(NO_RUNTIME)?.block_on(args.run(site::DEFAULT_ADDRESS))
        }
        Some(Command::Completions { shell }) => completions(*shell, &mut Cli::command(), env!("CARGO_PKG_NAME")),
    }
}

fn publish(args: &RunArgs, matches: &ArgMatches, log: &LogArgs) -> Result<(), Failure> {
    log.start()?;
    let (args, flags) = &recall::recall(args, matches)?;
    if args.print_config {
        return run::print_config(args, stdout());
    }
    let runtime = tokio::runtime::Runtime::new().context(NO_RUNTIME)?;
    let result = runtime.block_on(run::run(args, flags.clone(), log));
    // What hangs on a dead connection must not keep the process.
    runtime.shutdown_background();
    result
}

fn print_sample(args: &SampleArgs) -> Result<(), Failure> {
    let from = args.shape.from.unwrap_or_else(|| Clock::start().now());
    let source = plan::source(&args.shape, args.rate, from, run::random_seed())?;
    sample::print(&source, args.number.get(), stdout().lock())
}

fn print_description(args: &DescribeArgs) -> Result<(), Failure> {
    let from = args.shape.from.unwrap_or_else(|| Clock::start().now());
    let source = plan::source(&args.shape, args.rate, from, run::random_seed())?;
    describe::print(&source, args.count.get(), args.json, stdout().lock())
}
