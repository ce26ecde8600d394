//! Logging to stderr.

use std::io::{self, IsTerminal};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::exit::Failure;
use crate::progress;

/// Format and level of the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Format of the log on standard error [default: text on a terminal, json otherwise]
    #[arg(long, value_enum, global = true)]
    pub log_format: Option<LogFormat>,
    /// Log more: -v debug, -vv trace; RUST_LOG takes precedence
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Log less: -q warnings, -qq errors only
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "verbose")]
    pub quiet: u8,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text
    Text,
    /// One JSON object per line
    Json,
}

impl LogArgs {
    /// Returns true if progress is shown: stderr is a terminal, and neither `--quiet` nor JSON is requested.
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        io::stderr().is_terminal() && self.quiet == 0 && self.log_format != Some(LogFormat::Json)
    }

    /// Returns true if the log format is text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.log_format.map_or_else(|| io::stderr().is_terminal(), |format| format == LogFormat::Text)
    }

    /// Installs the logger of this process. Fails if one is installed already or `RUST_LOG` is invalid.
    pub fn start(&self) -> Result<(), Failure> {
        let level = match (self.quiet, self.verbose) {
            (0, 0) => "info",
            (0, 1) => "debug",
            (0, _) => "trace",
            (1, _) => "warn",
            _ => "error",
        };
        // librdkafka's own lines repeat events that the programs log, and the AWS SDK would log requests.
        let default =
            format!("{level},librdkafka=off,rdkafka=off,aws=warn,aws_config=error,hyper=warn,refinery_core=warn");
        let filter = match std::env::var("RUST_LOG") {
            Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives).map_err(|error| {
                Failure::usage(format!(
                    "invalid RUST_LOG={directives}: {error}; write it as in RUST_LOG=info,lake=debug"
                ))
            })?,
            _ => EnvFilter::new(default),
        };
        // False unless stderr is a terminal, and with NO_COLOR or TERM=dumb.
        let colors = console::colors_enabled_stderr();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveProgress);
        let started = if self.is_text() {
            lines.with_ansi(colors).with_target(false).finish().try_init()
        } else {
            lines.json().flatten_event(true).finish().try_init()
        };
        started.map_err(|error| Failure::Failed(anyhow::anyhow!("cannot start the log: {error}")))
    }
}

/// Writes each line to stderr without corrupting the progress line.
struct AboveProgress;

impl<'a> MakeWriter<'a> for AboveProgress {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// A buffered line, written in one piece on drop.
struct Line(Vec<u8>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A log that cannot be written must not end the program.
        let _ = progress::above(|| io::Write::write_all(&mut io::stderr(), &self.0));
    }
}
