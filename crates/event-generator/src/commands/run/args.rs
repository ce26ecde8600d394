//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use event_model::Timestamp;
use pipeline_runtime::healthcheck::HealthcheckArgs;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use pipeline_runtime::telemetry::LogArgs;
use workload::{EventRate, ExperimentEffect, FaultShare, ParseRateError, Shape};

use crate::count::Count;
use crate::memory::MemoryLimit;
use crate::run_state::default_state_dir;
use crate::span::Span;

/// Makes product events and publishes them to Kafka and to a lake of Parquet files.
///
/// Without any flags it runs until Ctrl-C, ten million events a day, against the local stack (`cargo run -p local-stack
/// -- up`). The same seed and settings make the same events again.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; `run` if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`
    #[command(flatten)]
    pub run: RunArgs,
    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  event-generator                                       10M events a day until Ctrl-C
  event-generator --rate 2500/s --duration 90s          a minute and a half of load
  event-generator --rate max --count 1M                 a backfill, as fast as it goes
  event-generator --seed 7 --from 2026-11-22T00:00:00Z --rate max --count 10M
                                                        a whole day, the same one every time
  event-generator --shape daily --rate max --from 2026-11-22T00:00:00Z --then-live
                                                        the days since then, then on by the clock
  event-generator --fault invalid=0.5% --fault corrupt=0.1% --fault duplicate=1%
  event-generator --lake file:///tmp/lake --no-kafka    only Parquet files, into a folder
  event-generator --resume --run-id 5a52d93c6           go on with a run that was killed
  event-generator sample -n 5                           look at events, touch nothing
  event-generator describe --effect exp_3=+15%          what to expect of events, touch nothing

Every flag can be given as a variable too: --rate as EVENT_GENERATOR_RATE.
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

/// What the program can do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in the process")]
pub enum Command {
    /// Make events and publish them, until Ctrl-C or the end that is asked for
    Run(RunArgs),
    /// Print events as JSON lines, touch nothing
    Sample(SampleArgs),
    /// Print the truth behind the settings: probabilities, and what to expect by type, experiment and user decile
    Describe(DescribeArgs),
    /// Ask a running generator whether it is alive: exit 0 or 1, for supervisors and containers
    Healthcheck(HealthcheckArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What a run is and where it goes.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RunArgs {
    /// How fast: 10M/day, 2500/s, 0.5/s, 1k/min, 3/h, or max for a backfill (with an end). Exact, and never drifts:
    /// event i is due at --from plus i / rate
    #[arg(long, default_value = "10M/day", value_name = "RATE|max", help_heading = "How much")]
    pub rate: Rate,
    /// With --rate max: how densely events lie in time [default: 10M/day]
    #[arg(long, value_name = "RATE", help_heading = "How much")]
    pub event_rate: Option<EventRate>,
    /// End after so many events: 1000000, 250k, 10M
    #[arg(long, help_heading = "How much")]
    pub count: Option<Count>,
    /// End after so much of the schedule: 90s, 15m, 2h, 1d
    #[arg(long, conflicts_with = "count", help_heading = "How much")]
    pub duration: Option<Span>,
    /// End before this time of the schedule, as 2026-11-23T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp, conflicts_with_all = ["count", "duration"], help_heading = "How much")]
    pub to: Option<Timestamp>,
    /// With --rate max and --from: once the schedule has reached the present, go on by the clock. No gap, no overlap
    #[arg(long, requires = "from", help_heading = "How much")]
    pub then_live: bool,

    /// The events
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Publish a run again that is finished already: the consumer counts the records as duplicates
    #[arg(long, help_heading = "Which events")]
    pub again: bool,
    /// Go on with the run --run-id, which was killed or stopped before all was stored, as it was asked for: the same
    /// events, the same keys. Flags that say something else about it are refused; give -X and --kafka-config again
    #[arg(long, requires = "run_id", conflicts_with = "again", help_heading = "Which events")]
    pub resume: bool,
    /// Go on with the run --run-id where it has begun on this host, begin it where not, and end at once where it is
    /// finished: for supervisors, which start the same command again and again
    #[arg(long, requires = "run_id", conflicts_with_all = ["again", "resume"], help_heading = "Which events")]
    pub resume_if_begun: bool,

    /// Kafka
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Do not publish to Kafka
    #[arg(long, help_heading = "Kafka")]
    pub no_kafka: bool,
    /// Leave out the headers `run` and `schema`. Corrupt records keep theirs
    #[arg(long, help_heading = "Kafka")]
    pub no_headers: bool,

    /// The lake
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Do not write to a lake
    #[arg(long, conflicts_with = "lake", help_heading = "Lake")]
    pub no_lake: bool,

    /// Threads that make events [default: one for each two cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Machine")]
    pub threads: Option<u16>,
    /// Where a run is remembered while it is not finished, and its manifest afterwards, in a folder of its own
    /// [default: $XDG_STATE_HOME/event-generator or ~/.local/state/event-generator]
    #[arg(long, value_name = "FOLDER", help_heading = "Machine")]
    pub state_dir: Option<PathBuf>,
    /// The most memory that the process may take, however slow Kafka or the lake are. Worlds of millions of users or
    /// products come on top
    #[arg(long, value_name = "BYTES", default_value_t, help_heading = "Machine")]
    pub memory_limit: MemoryLimit,
    /// Where /metrics, /livez and /readyz are answered, or off [default: 127.0.0.1:9465, where it is free]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Machine")]
    pub http_addr: Option<HttpAddr>,
    /// Print the whole configuration as it would be used, secrets taken out, and end
    #[arg(long, help_heading = "Machine")]
    pub print_config: bool,
}

impl RunArgs {
    /// Where runs are remembered.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(default_state_dir)
    }
}

/// What decides which events there are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which events")]
pub struct ShapeArgs {
    /// The root of all chance: the same seed and settings give the same events [default: a random one, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// When event 0 happens, as 2026-11-22T10:00:00Z [default: now; with --rate max so that the last event is now]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub from: Option<Timestamp>,
    /// How events lie over the day, in UTC: flat, or daily, which is busy from 8 to 22 and has the same number a day
    #[arg(long, default_value_t = Shape::Flat, value_name = "flat|daily")]
    pub shape: Shape,
    /// A name for the run, in its keys and its manifest [default: its tag, nine hexadecimal digits]
    #[arg(long, value_name = "NAME")]
    pub run_id: Option<String>,
    /// Make a share of the events wrong on purpose: invalid (refused, to the quarantine), corrupt (bytes that are no
    /// event, sent), oversize (over 64 KiB, sent), duplicate (sent again, at once or later), late, out-of-order, hot-key
    /// (all of one user), burst (a hundred at once). May be repeated: --fault invalid=0.5% --fault duplicate=1%
    #[arg(long, value_name = "KIND=SHARE", value_delimiter = ',')]
    pub fault: Vec<FaultShare>,
    /// What an experiment does to how often a request for quotation follows a view: `exp_3=+15%` makes 13.8% of 12%. May
    /// be repeated
    #[arg(long, value_name = "EXPERIMENT=CHANGE", value_delimiter = ',')]
    pub effect: Vec<ExperimentEffect>,
    /// Make each record larger by a field of so many letters, which readers ignore and the lake has not; 60000 at most
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub pad: u32,
    /// Number of users, heavy and light ones
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub users: u32,
    /// Number of accounts; a user keeps its account
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub accounts: u32,
    /// Number of products; a product keeps its category
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub products: u32,
}

/// Which events to print.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// How many
    #[arg(short, long, default_value = "10", value_name = "N")]
    pub number: Count,
    /// How densely the events lie in time
    #[arg(long, default_value = "10M/day", value_name = "RATE")]
    pub rate: EventRate,
    /// The events
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// What to expect of which events.
#[derive(Args, Clone, Debug)]
pub struct DescribeArgs {
    /// Of so many events
    #[arg(long, default_value = "1M", value_name = "N")]
    pub count: Count,
    /// As one JSON document
    #[arg(long)]
    pub json: bool,
    /// How densely the events lie in time
    #[arg(long, default_value = "10M/day", value_name = "RATE")]
    pub rate: EventRate,
    /// The events
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// How fast a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// By the clock, so many events in a time.
    Live(EventRate),
    /// As fast as the sinks take it.
    Max,
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        if text == "max" { Ok(Self::Max) } else { text.parse().map(Self::Live) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(rate) => rate.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write it as in RFC 3339: 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        let cli = parse("event-generator --rate max --count 10M -X linger.ms=5 -v").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.rate, Rate::Max);
        assert_eq!(cli.run.count.map(Count::get), Some(10_000_000));
        let cli = parse("event-generator run --rate 0.5/s --fault invalid=1% --fault corrupt=1%").unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(run.shape.fault.len(), 2);
        assert_eq!(run.rate.to_string(), "0.5/s");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "event-generator --rate fast",
            "event-generator --count 0",
            "event-generator --count 1 --duration 1s",
            "event-generator --count 1 --to 2026-11-22T00:00:00Z",
            "event-generator --rate max --then-live",
            "event-generator --shape round",
            "event-generator --from yesterday",
            "event-generator --fault late",
            "event-generator --fault tardy=1%",
            "event-generator --lake /tmp/x",
            "event-generator --lake file:///tmp --no-lake",
            "event-generator --threads 0",
            "event-generator --resume",
            "event-generator --resume --run-id a --again",
            "event-generator sample --rate max",
            "event-generator --no-such-flag",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
