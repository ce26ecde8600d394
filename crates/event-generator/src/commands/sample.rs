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
    /// Print whole sessions, each from its search to its last event
    #[arg(long, value_name = "N", value_parser = Count::within(Count::new(1)..), conflicts_with = "number", allow_hyphen_values = true)]
    sessions: Option<Count>,
    /// Event rate, such as 10M/day, 2500/s or 3/h
    #[arg(long, default_value = "10M/day", value_name = "RATE", allow_hyphen_values = true)]
    rate: EventRate,
    #[command(flatten)]
    events: EventArgs,
}

pub(crate) fn execute(args: &SampleArgs) -> Result<(), Failure> {
    let source = args.events.source(args.rate, Clock::start().now(), random_seed())?;
    match args.sessions {
        Some(sessions) => {
            print(&source, (0..sessions.get()).flat_map(|number| source.session(number)), stdout().lock())
        }
        None => print(&source, 0..args.number.get(), stdout().lock()),
    }
}

/// Writes events, one value per line.
fn print(source: &Source, indices: impl Iterator<Item = u64>, out: impl Write) -> Result<(), Failure> {
    unless_closed(write(source, indices, io::BufWriter::new(out)).map_err(Into::into))
}

fn write(source: &Source, indices: impl Iterator<Item = u64>, mut out: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    for index in indices {
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

    use event_model::{EventType, Window, parse};

    use super::*;
    use crate::test_source::source;

    #[test]
    fn each_line_is_a_valid_event() {
        let mut out = Vec::new();
        print(&source(&[]), 0..20, &mut out).unwrap();
        let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 20);
        for line in lines {
            parse(Some(line.trim_ascii_end()), None, Window::default()).unwrap();
        }
    }

    #[test]
    fn a_session_is_one_users_walk_from_a_search_on() {
        let source = source(&[]);
        let mut lengths = Vec::new();
        for number in 0..200 {
            let mut out = Vec::new();
            print(&source, source.session(number), &mut out).unwrap();
            let events: Vec<_> = out.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
            let events: Vec<_> =
                events.iter().map(|line| parse(Some(line), None, Window::default()).unwrap()).collect();
            assert_eq!(events[0].event_type, EventType::SearchPerformed);
            assert!(events.iter().all(|event| event.user_id == events[0].user_id), "{events:?}");
            assert!(events.windows(2).all(|pair| pair[0].event_timestamp < pair[1].event_timestamp), "{events:?}");
            lengths.push(events.len());
        }
        assert!(lengths.contains(&1) && lengths.iter().any(|length| *length > 5), "{lengths:?}");
    }
}
