//! Flags of `run`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use event_model::Timestamp;
use lake::LakeUrl;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use pipeline_runtime::units::{self, Count, TimeSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use workload::{EventRate, MAX_INDEX, ParseRateError};

use crate::commands::event_args::{EventArgs, parse_timestamp};
use crate::memory::MemoryLimit;
use crate::run_state::{StartMode, default_state_dir};

#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) flags: ResumeFlags,
    /// Publish a finished run again, with the --seed, --from and other flags of its start; the consumer counts its
    /// records as duplicates
    #[arg(long, help_heading = "Run")]
    pub(crate) republish: bool,
    /// Resume the unfinished run --run-id with its saved flags; flags that would change its events are rejected, and -X
    /// and --kafka-config are not saved and must be repeated
    #[arg(long, requires = "run_id", conflicts_with = "republish", help_heading = "Run")]
    pub(crate) resume: bool,
    /// Resume the run --run-id if it is unfinished on this host, start it if it is new, exit if it is finished; for
    /// supervisors, which repeat the same command
    #[arg(long, requires = "run_id", conflicts_with_all = ["republish", "resume"], help_heading = "Run")]
    pub(crate) resume_or_start: bool,

    /// Number of threads that generate events, 1 to 64 [default: half the cores]
    #[arg(
        long,
        value_name = "N",
        value_parser = units::count_within::<u16>(1..=64),
        allow_hyphen_values = true,
        help_heading = "Process"
    )]
    pub(crate) threads: Option<u16>,
    /// Folder for the state of unfinished runs and the manifests of finished runs, one subfolder per run
    /// [default: $XDG_STATE_HOME/event-generator or ~/.local/state/event-generator]
    #[arg(long, value_name = "FOLDER", help_heading = "Process")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Maximum memory of the process, at least 128MiB; millions of users or products need more than the default
    #[arg(long, value_name = "BYTES", default_value_t, allow_hyphen_values = true, help_heading = "Process")]
    pub(crate) memory_limit: MemoryLimit,
    /// Maximum time for which Kafka may refuse the login during the run, such as after a password change; exit with code
    /// 1 after that. The file of --kafka-config is read again for each login
    #[arg(long, value_name = "DURATION", default_value = "2m", allow_hyphen_values = true, help_heading = "Process")]
    pub(crate) login_grace: TimeSpan,
    /// Address of /metrics, /livez and /readyz, or off [default: 127.0.0.1:9465 if it is free]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Process")]
    pub(crate) http_addr: Option<HttpAddr>,
    /// Print the effective configuration as JSON, with secrets masked, and exit
    #[arg(long, help_heading = "Process")]
    pub(crate) print_config: bool,
}

/// Flags that a run's state saves and a resume repeats: events, pace and destination. None of them holds a secret or
/// belongs to the machine.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ResumeFlags {
    /// Rate of events, such as 10M/day, 2500/s, 1k/min or 0.5/s, at most 100M/s; or max for a backfill, which needs
    /// --count, --to or --follow; event i is due exactly i / rate after --from
    #[arg(
        long,
        default_value = "10M/day",
        value_name = "RATE|max",
        allow_hyphen_values = true,
        help_heading = "Schedule"
    )]
    pub(crate) rate: Rate,
    /// Event rate of the schedule with --rate max [default: 10M/day]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true, help_heading = "Schedule")]
    pub(crate) event_rate: Option<EventRate>,
    /// Number of events, such as 250k or 10M [default: no end]
    #[arg(
        long,
        value_parser = Count::within(Count::new(1)..=Count::new(MAX_INDEX + 1)),
        allow_hyphen_values = true,
        help_heading = "Schedule"
    )]
    pub(crate) count: Option<Count>,
    /// Length of the schedule, such as 90s, 15m, 2h or 1d [default: no end]
    #[arg(
        long,
        value_parser = TimeSpan::within(TimeSpan::SHORTEST..),
        conflicts_with = "count",
        allow_hyphen_values = true,
        help_heading = "Schedule"
    )]
    pub(crate) duration: Option<TimeSpan>,
    /// End of the schedule, exclusive, such as 2026-11-23T00:00:00Z [default: no end]
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp, conflicts_with_all = ["count", "duration"], help_heading = "Schedule")]
    pub(crate) to: Option<Timestamp>,
    /// Continue live when a backfill (--rate max with --from) reaches the present, without a gap or an overlap
    #[arg(long, requires = "from", help_heading = "Schedule")]
    pub(crate) follow: bool,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) events: EventArgs,

    #[command(flatten)]
    #[serde(flatten, with = "SavedKafkaArgs")]
    pub(crate) kafka: KafkaArgs,
    /// Do not publish to Kafka
    #[arg(long, help_heading = "Kafka")]
    pub(crate) no_kafka: bool,
    /// Omit the record headers run and schema, except on corrupt records
    #[arg(long, help_heading = "Kafka")]
    pub(crate) no_headers: bool,

    #[command(flatten)]
    #[serde(flatten, with = "SavedLakeArgs")]
    pub(crate) lake: LakeArgs,
    /// Do not write to a lake
    #[arg(long, conflicts_with = "lake", help_heading = "Lake")]
    pub(crate) no_lake: bool,
}

/// The saved part of [`KafkaArgs`]. Properties may hold secrets.
#[derive(Serialize, Deserialize)]
#[serde(remote = "KafkaArgs")]
struct SavedKafkaArgs {
    bootstrap_servers: String,
    topic: String,
    #[serde(skip)]
    properties: Vec<String>,
    #[serde(skip)]
    kafka_config: Option<PathBuf>,
}

/// The saved form of [`LakeArgs`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "LakeArgs")]
struct SavedLakeArgs {
    lake: Option<LakeUrl>,
}

impl RunArgs {
    pub(super) fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(default_state_dir)
    }

    pub(super) fn start_mode(&self) -> StartMode {
        match self {
            Self { republish: true, .. } => StartMode::Republish,
            Self { resume: true, .. } => StartMode::Resume,
            Self { resume_or_start: true, .. } => StartMode::ResumeOrStart,
            _ => StartMode::New,
        }
    }

    pub(super) fn threads(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        // One worker generates more than the dispatcher can send. The other cores serve the broker and the lake.
        self.threads.unwrap_or_else(|| u16::try_from((cores() / 2).clamp(1, 64)).unwrap_or(1))
    }
}

/// Value of `--rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Events per time, by the clock.
    Live(EventRate),
    /// As fast as the sinks accept.
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

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
