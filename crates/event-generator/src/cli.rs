//! The command line: parser and dispatch.

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use pipeline_runtime::environment::{completions, parse, with_variables};
use pipeline_runtime::exit::{self, Failure};
use pipeline_runtime::healthcheck::HealthcheckArgs;
use pipeline_runtime::telemetry::LogArgs;

use crate::commands::describe::{self, DescribeArgs};
use crate::commands::healthcheck;
use crate::commands::run::{self, RunArgs};
use crate::commands::runs::{self, RunsArgs};
use crate::commands::sample::{self, SampleArgs};

/// Generate product events and publish them to Kafka and to a lake of Parquet files
///
/// Without flags, publish 10 million events per day to the local stack until Ctrl-C. Start the local stack with 'cargo
/// run -p local-stack -- up'. The same seed and settings generate the same events.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    /// Command to execute; `run` if none is given
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  # Publish 10 million events per day until Ctrl-C
  event-generator
  # Run a load test for 90 seconds
  event-generator --rate 2500/s --duration 90s
  # Backfill a day at maximum speed, the same day each time
  event-generator --seed 7 --from 2026-11-22T00:00:00Z --rate max --count 10M
  # Backfill from a time to the present, then continue live
  event-generator --shape daily --rate max --from 2026-11-22T00:00:00Z --follow
  # Inject faults
  event-generator --fault invalid=0.5%,corrupt=0.1%,duplicate=1%
  # Write Parquet files to a folder only
  event-generator --lake file:///tmp/lake --no-kafka
  # Resume a killed run
  event-generator --resume --run-id 5a52d93c6
  # Print events, or their expected counts
  event-generator sample -n 5
  event-generator describe --effect exp_3=+15%

Each flag has an environment variable: --rate is EVENT_GENERATOR_RATE.
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.";

const RUN_EXAMPLES: &str = "\
Examples:
  event-generator run --rate 2500/s --duration 90s
  event-generator run --rate max --count 1M --lake file:///tmp/lake --no-kafka
  event-generator run --resume --run-id 5a52d93c6";

const SAMPLE_EXAMPLES: &str = "\
Examples:
  event-generator sample -n 5
  event-generator sample -n 100 --seed 7 --fault invalid=10%";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  event-generator describe --effect exp_3=+15%
  event-generator describe --count 10M --users 5k --json";

const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  event-generator healthcheck
  event-generator healthcheck --ready --http-addr 127.0.0.1:9465 --timeout 1s";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  event-generator completions bash > ~/.local/share/bash-completion/completions/event-generator
  event-generator completions zsh > ~/.zfunc/_event-generator";

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "the process has one value of it")]
enum Command {
    /// Generate events and publish them until Ctrl-C or the requested end (the default command)
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// List the runs on this host and in the lake; remove old ones from this host
    Runs(RunsArgs),
    /// Print events as JSON lines without publishing them
    #[command(after_help = SAMPLE_EXAMPLES)]
    Sample(SampleArgs),
    /// Print transition probabilities, and expected counts by event type, experiment and user decile
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(DescribeArgs),
    /// Query a probe of a running generator; exit 0 if it passes, else 1
    #[command(after_help = HEALTHCHECK_EXAMPLES)]
    Healthcheck(HealthcheckArgs),
    /// Print a shell completion script
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell that reads the script
        shell: Shell,
    },
}

/// Returns the definition of the command line, for parsing and for the reference.
#[must_use]
pub fn command() -> clap::Command {
    with_variables(Cli::command(), "EVENT_GENERATOR")
}

/// Runs the program and ends the process with its exit code.
pub fn main() -> ! {
    exit::run("no event is lost; resume the run with 'event-generator --resume --run-id RUN'", || {
        let Some(matches) = parse(command())? else { return Ok(()) };
        match Cli::from_arg_matches(&matches) {
            Ok(cli) => dispatch(&cli, &matches),
            Err(error) => error.exit(),
        }
    })
}

fn dispatch(cli: &Cli, matches: &ArgMatches) -> Result<(), Failure> {
    match &cli.command {
        None => run::execute(&cli.run, matches, &cli.log),
        Some(Command::Run(args)) => {
            let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
            run::execute(args, matches, &cli.log)
        }
        Some(Command::Runs(args)) => runs::execute(args),
        Some(Command::Sample(args)) => sample::execute(args),
        Some(Command::Describe(args)) => describe::execute(args),
        Some(Command::Healthcheck(args)) => healthcheck::execute(args),
        Some(Command::Completions { shell }) => completions(*shell, &mut command(), env!("CARGO_PKG_NAME")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use pipeline_runtime::units::Count;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        let cli = parse("event-generator --rate max --count 10M -X linger.ms=5 -v").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.flags.rate.to_string(), "max");
        assert_eq!(cli.run.flags.count.map(Count::get), Some(10_000_000));
        let cli = parse("event-generator run --rate 0.5/s --fault invalid=1% --fault corrupt=1%").unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(run.flags.events.fault.len(), 2);
        assert_eq!(run.flags.rate.to_string(), "0.5/s");
    }

    #[test]
    fn contradictory_flags_are_rejected() {
        for line in [
            "event-generator --rate fast",
            "event-generator --count 0",
            "event-generator --count 1 --duration 1s",
            "event-generator --count 1 --to 2026-11-22T00:00:00Z",
            "event-generator --rate max --follow",
            "event-generator --shape round",
            "event-generator --from yesterday",
            "event-generator --fault late",
            "event-generator --fault tardy=1%",
            "event-generator --lake /tmp/x",
            "event-generator --lake file:///tmp --no-lake",
            "event-generator --threads 0",
            "event-generator --resume",
            "event-generator --resume --run-id a --republish",
            "event-generator --resume-or-start",
            "event-generator sample --rate max",
            "event-generator --no-such-flag",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn errors_of_numbers_name_cause_and_limit() {
        for (line, part) in [
            ("--rate 0", "rate must be greater than 0"),
            ("--rate 100", "100 has no unit; write 100/s"),
            ("--count -1", "must not be negative"),
            ("--count 0", "0 is out of range; use 1 to 274877906944"),
            ("--count 99999999999999999999", "is out of range; use 1 to 274877906944"),
            ("--duration 100", "100 has no unit; write 100ms, 100s or 100m"),
            ("--duration -1d", "must not be negative"),
            ("--seed abc", "not a seed; write a whole number from 0 to 18446744073709551615"),
            ("--seed -1", "not a seed"),
            ("--users 0", "0 is out of range; use 1 to 10M"),
            ("--accounts 0", "0 is out of range; use 1 to 2147483647"),
            ("--padding 60001", "60001 is out of range; use 0 to 60000"),
            ("--threads 65", "65 is out of range; use 1 to 64"),
            ("--memory-limit 1MiB", "1MiB is out of range; use at least 128MiB"),
            ("sample -n -1", "must not be negative"),
        ] {
            let error = parse(&format!("event-generator {line}")).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(part), "{line}: {error}");
        }
    }
}
