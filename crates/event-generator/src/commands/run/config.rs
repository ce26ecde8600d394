//! What a run will do, resolved once: nothing after this reads a flag or asks for the time of day.

use std::sync::Arc;

use event_model::{Timestamp, Window};
use lake::RunId;
use pipeline_runtime::exit::Failure;
use workload::{Effects, EventRate, Faults, MAX_INDEX, Settings, Source, World};

use crate::commands::run::args::{Rate, RunArgs, ShapeArgs};
use crate::pipeline::block_plan::Pace;

/// How densely the events of a backfill lie, unless told otherwise.
const DEFAULT_EVENT_RATE: &str = "10M/day";

/// A run before it begins.
#[derive(Debug)]
pub struct Plan {
    /// Its events.
    pub source: Arc<Source>,
    /// Its name in keys.
    pub run: RunId,
    /// How many events there will be; none until somebody stops it.
    pub count: Option<u64>,
    /// By the clock, or as fast as it goes.
    pub pace: Pace,
    /// Whether it may be sent although it is finished.
    pub again: bool,
}

impl Plan {
    /// Resolves the flags. `now` is the present and `chance` a random number, for what the flags leave open.
    pub fn resolve(args: &RunArgs, now: Timestamp, chance: u64) -> Result<Self, Failure> {
        let (pace, rate) = pace_and_rate(args)?;
        let shape = args.shape.shape;
        let from = args.shape.from.unwrap_or_else(|| match (pace, args.count) {
            (Pace::Max, Some(count)) => Timestamp::from_micros(shape.start_before(rate, now.micros(), count.get())),
            _ => now,
        });
        let until = |to: i64| shape.events_between(rate, from.micros(), to);
        let count = match (args.count, args.duration, args.to) {
            (Some(count), ..) => Some(count.get()),
            (_, Some(_), _) if pace == Pace::Max => {
                return Err(Failure::usage("--duration goes by the clock; with --rate max give --count or --to"));
            }
            (_, Some(duration), _) => Some(until(from.micros().saturating_add_unsigned(duration.micros()))),
            (.., Some(_)) if pace == Pace::Max && args.shape.from.is_none() => {
                return Err(Failure::usage("--rate max --to needs a beginning too: give --from"));
            }
            (.., Some(to)) => Some(until(to.micros())),
            _ if pace == Pace::Max => {
                return Err(Failure::usage(
                    "--rate max needs an end: give --count, such as --count 10M, or --to, or --then-live",
                ));
            }
            _ => None,
        };
        if count == Some(0) {
            return Err(Failure::usage("--to: no event is due before it; it must be later than --from"));
        }
        if count.is_some_and(|count| count > MAX_INDEX + 1) {
            return Err(Failure::usage(format!("--count: a run has at most {} events", MAX_INDEX + 1)));
        }
        let source = source(&args.shape, rate, from, chance)?;
        check_times(&source, count, pace, now)?;
        let run = source.settings().run_name().parse().map_err(|error| Failure::usage(format!("--run-id: {error}")))?;
        Ok(Self { source: Arc::new(source), run, count, pace, again: args.again })
    }
}

fn pace_and_rate(args: &RunArgs) -> Result<(Pace, EventRate), Failure> {
    match (args.rate, args.event_rate) {
        (Rate::Live(_), _) if args.then_live => {
            Err(Failure::usage("--then-live goes with --rate max; give the rate as --event-rate"))
        }
        (Rate::Live(_), Some(_)) => {
            Err(Failure::usage("--event-rate goes with --rate max only: otherwise --rate says it"))
        }
        (Rate::Live(rate), None) => Ok((Pace::Live, rate)),
        (Rate::Max, rate) => {
            let pace = if args.then_live { Pace::ThenLive } else { Pace::Max };
            Ok((pace, rate.map_or_else(default_event_rate, Ok)?))
        }
    }
}

/// The source of what the flags describe.
pub fn source(shape: &ShapeArgs, event_rate: EventRate, from: Timestamp, chance: u64) -> Result<Source, Failure> {
    let world = World { users: shape.users, accounts: shape.accounts, products: shape.products, ..World::default() };
    let faults = Faults::from_shares(&shape.fault).map_err(|error| Failure::usage(format!("--fault: {error}")))?;
    let effects = Effects::new(&shape.effect).map_err(|error| Failure::usage(format!("--effect: {error}")))?;
    let seed = shape.seed.unwrap_or(chance);
    let settings = Settings {
        seed,
        world,
        effects,
        faults,
        event_rate,
        shape: shape.shape,
        pad: shape.pad,
        from,
        run_id: shape.run_id.clone(),
    };
    Source::new(settings).map_err(|error| Failure::usage(error.to_string()))
}

fn default_event_rate() -> Result<EventRate, Failure> {
    DEFAULT_EVENT_RATE.parse().map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}

/// The consumer refuses events too far from the time of their record, which is when they are sent. Better to say so
/// before ten million of them are.
fn check_times(source: &Source, count: Option<u64>, pace: Pace, now: Timestamp) -> Result<(), Failure> {
    let window = Window::default();
    let first = source.due(0);
    // By the clock, events to come are sent when they are due.
    let last = match (pace, count) {
        (Pace::Max, Some(count)) => source.due(count - 1),
        _ => first,
    };
    let wrong = [first, last].into_iter().find(|&due| !window.holds(due, Some(now)));
    wrong.map_or(Ok(()), |due| {
        Err(Failure::usage(format!(
            "events would lie between {first} and {last}, but {due} is more than 400 days before or a day after now \
             ({now}), where no event is valid; choose another --from, --count or --event-rate"
        )))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use clap::Parser;

    use super::*;
    use crate::commands::run::args::Cli;

    fn plan(flags: &str) -> Result<Plan, Failure> {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let line = format!("event-generator {flags}");
        Plan::resolve(&Cli::try_parse_from(line.split_whitespace()).unwrap().run, now, 99)
    }

    #[test]
    fn a_live_run_begins_now() {
        let plan = plan("--rate 2500/s --duration 90s").unwrap();
        assert_eq!(plan.count, Some(225_000));
        assert_eq!(plan.pace, Pace::Live);
        assert_eq!(plan.source.settings().from.to_string(), "2026-11-22T12:00:00.000000Z");
        assert_eq!(plan.source.settings().seed, 99);
        assert_eq!(plan.run.as_str(), plan.source.run_tag().to_string());
    }

    #[test]
    fn a_backfill_ends_now() {
        let plan = plan("--rate max --count 10M --seed 5").unwrap();
        assert_eq!(plan.source.settings().from.to_string(), "2026-11-21T12:00:00.000000Z");
        assert_eq!(plan.source.settings().seed, 5);
    }

    #[test]
    fn an_end_in_time_is_a_count() {
        let day = "--rate max --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z";
        assert_eq!(plan(day).unwrap().count, Some(10_000_000));
        assert_eq!(plan(&format!("{day} --shape daily")).unwrap().count, Some(10_000_000));
        assert_eq!(plan("--rate 0.5/s --to 2026-11-22T12:00:10Z").unwrap().count, Some(5));
        let noon = plan("--rate 24k/day --shape daily --duration 1h").unwrap();
        assert_eq!(noon.count, Some(1_400));
        let backfill = plan("--rate max --count 10M --shape daily").unwrap();
        assert_eq!(backfill.source.settings().from.to_string(), "2026-11-21T12:00:00.000000Z");
    }

    #[test]
    fn a_backfill_that_goes_live_has_no_end() {
        let plan = plan("--rate max --from 2026-11-21T00:00:00Z --then-live").unwrap();
        assert_eq!((plan.pace, plan.count), (Pace::ThenLive, None));
    }

    #[test]
    fn pace_and_end_are_not_part_of_the_run() {
        let live = plan("--seed 1 --from 2026-11-22T10:00:00Z").unwrap();
        let backfill = plan("--seed 1 --from 2026-11-22T10:00:00Z --rate max --count 10").unwrap();
        assert_eq!(live.run, backfill.run);
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        for (flags, part) in [
            ("--rate max", "--count"),
            ("--rate max --duration 1s", "--count"),
            ("--rate max --to 2026-11-22T00:00:00Z", "--from"),
            ("--rate max --from 2026-11-22T00:00:00Z --to 2026-11-22T00:00:00Z", "later than --from"),
            ("--rate 1/s --from 2026-11-22T00:00:00Z --then-live", "--event-rate"),
            ("--event-rate 1/s", "--rate max"),
            ("--fault invalid=1% --fault invalid=2%", "twice"),
            ("--effect exp_3=+1%,exp_3=+2%", "twice"),
            ("--effect exp_11=+1%", "exp_11"),
            ("--pad 60001", "64 KiB"),
            ("--run-id a/b", "letters"),
            ("--users 0", "users"),
            ("--from 2020-01-01T00:00:00Z", "400 days"),
            ("--rate max --count 10M --from 2026-11-23T00:00:00Z", "a day after"),
            ("--rate max --count 999999M", "at most"),
        ] {
            let failure = plan(flags).unwrap_err();
            assert_eq!(failure.code(), 2, "{flags}");
            assert!(failure.to_string().contains(part), "{flags}: {failure}");
        }
    }
}
