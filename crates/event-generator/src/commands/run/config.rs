//! Resolves the flags of a run. Later code reads neither flags nor the time of day.

use std::sync::Arc;

use event_model::{Timestamp, Window};
use pipeline_runtime::exit::Failure;
use workload::{EventRate, MAX_INDEX, Source};

use super::args::{Rate, ResumeFlags};
use crate::clock::Pace;
use crate::pipeline::RunConfig;

/// Default density of a backfill's events in time.
const DEFAULT_EVENT_RATE: &str = "10M/day";

/// Resolves flags. `now` and `random_seed` apply if the flags leave them open.
pub(super) fn resolve(flags: &ResumeFlags, now: Timestamp, random_seed: u64) -> Result<RunConfig, Failure> {
    let (pace, rate) = pace_and_rate(flags)?;
    let shape = flags.events.shape;
    let from = flags.events.from.unwrap_or_else(|| match (pace, flags.count) {
        (Pace::Max, Some(count)) => Timestamp::from_micros(shape.start_before(rate, now.micros(), count.get())),
        _ => now,
    });
    let events_until = |to: i64| shape.events_between(rate, from.micros(), to);
    let count = match (flags.count, flags.duration, flags.to) {
        (Some(count), ..) => Some(count.get()),
        (_, Some(_), _) if pace == Pace::Max => {
            return Err(Failure::usage("--duration requires a live rate; give --count or --to with --rate max"));
        }
        (_, Some(duration), _) => Some(events_until(from.micros().saturating_add_unsigned(duration.micros()))),
        (.., Some(_)) if pace == Pace::Max && flags.events.from.is_none() => {
            return Err(Failure::usage("--rate max --to requires a start; give --from"));
        }
        (.., Some(to)) => Some(events_until(to.micros())),
        _ if pace == Pace::Max => {
            return Err(Failure::usage(
                "--rate max requires an end; give --count, such as --count 10M, --to or --follow",
            ));
        }
        _ => None,
    };
    if count == Some(0) {
        return Err(Failure::usage("--to: no event is due before this time; give a time later than --from"));
    }
    if count.is_some_and(|count| count > MAX_INDEX + 1) {
        return Err(Failure::usage(format!(
            "too many events: the maximum is {}; give an earlier --to or a shorter --duration",
            MAX_INDEX + 1
        )));
    }
    let source = flags.events.source(rate, from, random_seed)?;
    check_times(&source, count, pace, now)?;
    let run = source.settings().run_name().parse().map_err(|error| Failure::usage(format!("--run-id: {error}")))?;
    Ok(RunConfig { source: Arc::new(source), run, count, pace })
}

fn pace_and_rate(flags: &ResumeFlags) -> Result<(Pace, EventRate), Failure> {
    match (flags.rate, flags.event_rate) {
        (Rate::Live(_), _) if flags.follow => {
            Err(Failure::usage("--follow requires --rate max; give the rate as --event-rate"))
        }
        (Rate::Live(_), Some(_)) => Err(Failure::usage("--event-rate requires --rate max; give the rate as --rate")),
        (Rate::Live(rate), None) => Ok((Pace::Live, rate)),
        (Rate::Max, rate) => {
            let pace = if flags.follow { Pace::Follow } else { Pace::Max };
            Ok((pace, rate.map_or_else(default_event_rate, Ok)?))
        }
    }
}

fn default_event_rate() -> Result<EventRate, Failure> {
    DEFAULT_EVENT_RATE.parse().map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}

/// Fails if the consumer would reject events because they are too far from the time at which they are sent.
fn check_times(source: &Source, count: Option<u64>, pace: Pace, now: Timestamp) -> Result<(), Failure> {
    let window = Window::default();
    let first = source.due(0);
    // Future events of a live run are sent when they are due.
    let last = match (pace, count) {
        (Pace::Max, Some(count)) => source.due(count - 1),
        _ => first,
    };
    let outside = [first, last].into_iter().find(|&due| !window.holds(due, Some(now)));
    outside.map_or(Ok(()), |due| {
        Err(Failure::usage(format!(
            "invalid schedule from {first} to {last}: {due} is more than 400 days before or a day after now ({now}); \
             choose another --from, --count or --event-rate"
        )))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn config(flags: &str) -> Result<RunConfig, Failure> {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let line = format!("event-generator {flags}");
        let command = ResumeFlags::augment_args(Command::new("event-generator"));
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        resolve(&ResumeFlags::from_arg_matches(&matches).unwrap(), now, 99)
    }

    #[test]
    fn a_live_run_starts_now() {
        let config = config("--rate 2500/s --duration 90s").unwrap();
        assert_eq!(config.count, Some(225_000));
        assert_eq!(config.pace, Pace::Live);
        assert_eq!(config.source.settings().from.to_string(), "2026-11-22T12:00:00.000000Z");
        assert_eq!(config.source.settings().seed, 99);
        assert_eq!(config.run.as_str(), config.source.run_tag().to_string());
    }

    #[test]
    fn a_backfill_ends_now() {
        let config = config("--rate max --count 10M --seed 5").unwrap();
        assert_eq!(config.source.settings().from.to_string(), "2026-11-21T12:00:00.000000Z");
        assert_eq!(config.source.settings().seed, 5);
    }

    #[test]
    fn an_end_in_time_becomes_a_count() {
        let day = "--rate max --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z";
        assert_eq!(config(day).unwrap().count, Some(10_000_000));
        assert_eq!(config(&format!("{day} --shape daily")).unwrap().count, Some(10_000_000));
        assert_eq!(config("--rate 0.5/s --to 2026-11-22T12:00:10Z").unwrap().count, Some(5));
        let noon = config("--rate 24k/day --shape daily --duration 1h").unwrap();
        assert_eq!(noon.count, Some(1_400));
        let backfill = config("--rate max --count 10M --shape daily").unwrap();
        assert_eq!(backfill.source.settings().from.to_string(), "2026-11-21T12:00:00.000000Z");
    }

    #[test]
    fn a_backfill_that_follows_has_no_end() {
        let config = config("--rate max --from 2026-11-21T00:00:00Z --follow").unwrap();
        assert_eq!((config.pace, config.count), (Pace::Follow, None));
    }

    #[test]
    fn pace_and_end_do_not_change_the_run() {
        let live = config("--seed 1 --from 2026-11-22T10:00:00Z").unwrap();
        let backfill = config("--seed 1 --from 2026-11-22T10:00:00Z --rate max --count 10").unwrap();
        assert_eq!(live.run, backfill.run);
    }

    #[test]
    fn contradictory_flags_are_rejected() {
        for (flags, part) in [
            ("--rate max", "--count"),
            ("--rate max --duration 1s", "--count"),
            ("--rate max --to 2026-11-22T00:00:00Z", "--from"),
            ("--rate max --from 2026-11-22T00:00:00Z --to 2026-11-22T00:00:00Z", "later than --from"),
            ("--rate 1/s --from 2026-11-22T00:00:00Z --follow", "--event-rate"),
            ("--event-rate 1/s", "--rate max"),
            ("--fault invalid=1% --fault invalid=2%", "twice"),
            ("--effect exp_3=+1%,exp_3=+2%", "twice"),
            ("--effect exp_11=+1%", "exp_11"),
            ("--run-id a/b", "letters"),
            ("--from 2020-01-01T00:00:00Z", "400 days"),
            ("--rate max --count 10M --from 2026-11-23T00:00:00Z", "a day after"),
            ("--rate 100M/s --duration 1d", "the maximum is 274877906944"),
        ] {
            let failure = config(flags).unwrap_err();
            assert_eq!(failure.code(), 2, "{flags}");
            assert!(failure.to_string().contains(part), "{flags}: {failure}");
        }
    }
}
