//! `sample`: prints events.

use std::io::{self, Write, stdout};

use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::units::Count;
use workload::{EventRate, Source};

use super::event_args::{EventArgs, random_seed};
use crate::clock::Clock;

#[derive(Args, Clone, Debug)]
pub(crate) struct SampleArgs {
    /// Number of events, at least 1
    #[arg(
        short,
        long,
        default_value = "10",
        value_name = "N",
        value_parser = Count::within(Count::new(1)..),
        allow_hyphen_values = true
    )]
    number: Count,
    /// Event rate, such as 10M/day, 2500/s or 3/h
    #[arg(long, default_value = "10M/day", value_name = "RATE", allow_hyphen_values = true)]
    rate: EventRate,
    #[command(flatten)]
    events: EventArgs,
}

pub(crate) fn execute(args: &SampleArgs) -> Result<(), Failure> {
    let source = args.events.source(args.rate, Clock::start().now(), random_seed())?;
    print(&source, args.number.get(), stdout().lock())
}

/// Writes the first events, one value per line.
fn print(source: &Source, number: u64, out: impl Write) -> Result<(), Failure> {
    unless_closed(write(source, number, io::BufWriter::new(out)).map_err(Into::into))
}

fn write(source: &Source, number: u64, mut out: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    for index in 0..number {
        line.clear();
        source.make(index).write_value(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use event_model::{Window, parse};

    use super::*;
    use crate::test_source::source;

    #[test]
    fn each_line_is_a_valid_event() {
        let mut out = Vec::new();
        print(&source(&[]), 20, &mut out).unwrap();
        let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 20);
        for line in lines {
            parse(Some(line.trim_ascii_end()), None, Window::default()).unwrap();
        }
    }
}
