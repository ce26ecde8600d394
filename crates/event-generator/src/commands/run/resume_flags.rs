//! Combines the saved flags of an unfinished run with the flags of its resume.

use clap::ArgMatches;
use clap::parser::ValueSource;
use lake::RunId;
use pipeline_runtime::exit::Failure;
use serde_json::{Map, Value};

use super::args::{ResumeFlags, RunArgs};
use crate::run_state::{RunFolder, RunState, unfinished_runs};

/// Flags that exclude each other. If one of a group is given, it replaces the saved ones.
const EXCLUSIVE: [&[&str]; 3] = [&["count", "duration", "to"], &["lake", "no_lake"], &["topic", "no_kafka"]];

/// Returns the flags to run with. For a resume these are the saved ones, overridden by those given now.
pub(super) fn resolve(args: &RunArgs, matches: &ArgMatches) -> Result<RunArgs, Failure> {
    let Some(name) = args.flags.events.run_id.as_ref().filter(|_| args.resume || args.resume_or_start) else {
        return Ok(args.clone());
    };
    let run: RunId = name.parse().map_err(|error| Failure::usage(format!("--run-id: {error}")))?;
    let Some(state) = RunFolder::read_state_of(&args.state_dir(), &run)? else {
        return if args.resume { Err(no_unfinished_run(args, name)) } else { Ok(args.clone()) };
    };
    check_version(&state)?;
    let mut flags = merge(&state, &args.flags, |flag| is_given(matches, flag))?;
    // --run-id may be the tag of a run without a name.
    flags.events.run_id = state.settings.get("run_id").and_then(Value::as_str).map(str::to_owned);
    flags.kafka.properties.clone_from(&args.flags.kafka.properties);
    flags.kafka.kafka_config.clone_from(&args.flags.kafka.kafka_config);
    Ok(RunArgs { flags, resume: true, resume_or_start: false, ..args.clone() })
}

/// Returns the form in which a state saves the flags.
pub(super) fn to_json(flags: &ResumeFlags) -> Value {
    // Serializing flags to JSON cannot fail.
    serde_json::to_value(flags).unwrap_or_default()
}

/// Another version may generate other events from the same settings.
fn check_version(state: &RunState) -> Result<(), Failure> {
    let (started, this) = (&state.program.version, env!("CARGO_PKG_VERSION"));
    if started == this {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "cannot resume run {}: it was started by version {started}, and version {this} may generate other events; \
         resume it with version {started}",
        state.run
    )))
}

fn no_unfinished_run(args: &RunArgs, name: &str) -> Failure {
    let folder = args.state_dir();
    let runs = unfinished_runs(&folder);
    let runs = if runs.is_empty() { "none".to_owned() } else { runs.join(", ") };
    Failure::usage(format!(
        "cannot resume run {name}: {} has no such unfinished run (unfinished runs: {runs}); resume a run on the host \
         that started it, or look for the manifest of a finished run there or in the lake",
        folder.display()
    ))
}

/// Returns true if a flag is given on the command line or by a variable.
fn is_given(matches: &ArgMatches, flag: &str) -> bool {
    matches!(matches.value_source(flag), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Overrides the saved flags by those given now. A saved flag has the name of its argument.
fn merge(state: &RunState, now: &ResumeFlags, is_given: impl Fn(&str) -> bool) -> Result<ResumeFlags, Failure> {
    let replaces = |flag: &str| {
        let group = EXCLUSIVE.into_iter().find(|group| group.contains(&flag));
        group.map_or_else(|| is_given(flag), |group| group.iter().any(|flag| is_given(flag)))
    };
    let mut flags = object(state.flags.clone());
    // Without a flag these were random or the time of the start, so a resume takes them from the state.
    for name in ["seed", "from"] {
        flags.insert(name.to_owned(), state.settings[name].clone());
    }
    flags.extend(object(to_json(now)).into_iter().filter(|(flag, _)| replaces(flag)));
    serde_json::from_value(Value::Object(flags))
        .map_err(|error| Failure::Failed(anyhow::anyhow!("cannot read the saved flags of run {}: {error}", state.run)))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::{Args, Command, FromArgMatches};
    use serde_json::json;

    use pipeline_runtime::units::TimeSpan;

    use super::*;
    use crate::run_state::Destination;

    fn command() -> Command {
        RunArgs::augment_args(Command::new("event-generator"))
    }

    fn arguments(line: &str) -> (RunArgs, ArgMatches) {
        let matches = command().try_get_matches_from(line.split_whitespace()).unwrap();
        (RunArgs::from_arg_matches(&matches).unwrap(), matches)
    }

    /// Starts run `r` with some flags and resumes it with others.
    fn resumed(started: &str, now: &str) -> Result<RunArgs, Failure> {
        resumed_by(env!("CARGO_PKG_VERSION"), started, now)
    }

    fn resumed_by(version: &str, started: &str, now: &str) -> Result<RunArgs, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let (args, _) = arguments(&format!("event-generator {started}"));
        let destination = Destination { topic: None, lake: None, segment_indices: 1 };
        let from = "2026-11-22T10:00:00Z";
        let settings = json!({"seed": 7, "from": from});
        let flags = to_json(&args.flags);
        let mut state = RunState::new("r".parse().unwrap(), from.parse().unwrap(), settings, destination, flags);
        version.clone_into(&mut state.program.version);
        RunFolder::lock(dir.path(), &state.run).unwrap().write_state(&state).unwrap();
        let resume = if now.contains("--resume") { "" } else { "--resume" };
        let line = format!("event-generator {resume} --state-dir {} {now}", dir.path().display());
        let (args, matches) = arguments(&line);
        resolve(&args, &matches)
    }

    #[test]
    fn a_resume_repeats_the_flags_of_the_start() {
        let started = "--rate 0.5/s --duration 1500ms --users 5 --fault invalid=1% --fault corrupt=2% --effect exp_3=+15% \
                       --world-seed 3 --shape daily --padding 20 --topic t --no-headers --lake file:///tmp -X sasl.password=secret";
        let RunArgs { flags, resume, threads, .. } = resumed(started, "--run-id r --threads 3").unwrap();
        assert!(resume && flags.no_headers && flags.kafka.properties.is_empty());
        assert_eq!((flags.rate.to_string(), flags.events.users, flags.events.padding), ("0.5/s".to_owned(), 5, 20));
        assert_eq!(flags.events.world_seed, 3);
        assert_eq!((flags.events.fault.len(), flags.events.effect.len()), (2, 1));
        assert_eq!(flags.duration.map(TimeSpan::micros), Some(1_500_000));
        assert_eq!((flags.events.shape.to_string(), flags.count), ("daily".to_owned(), None));
        assert_eq!((flags.events.seed, flags.events.run_id, threads), (Some(7), None, Some(3)));
        assert_eq!(flags.events.from.unwrap().to_string(), "2026-11-22T10:00:00.000000Z");
        let lake = flags.lake.lake.unwrap().to_string();
        assert_eq!((flags.kafka.topic, lake), ("t".to_owned(), "file:///tmp".to_owned()));
    }

    #[test]
    fn flags_given_now_override_the_saved_ones() {
        let flags = resumed("--rate max --count 10 --users 5", "--run-id r --users 6 --duration 5s").unwrap().flags;
        assert_eq!((flags.count, flags.events.users), (None, 6));
        let flags = resumed("--rate max --count 10 --no-lake", "--run-id r --lake file:///tmp").unwrap().flags;
        assert!(!flags.no_lake && flags.lake.lake.is_some());
        let flags =
            resumed("--rate max --count 10 --topic t", "--run-id r --bootstrap-servers other:9092").unwrap().flags;
        assert_eq!((flags.kafka.topic.as_str(), flags.kafka.bootstrap_servers.as_str()), ("t", "other:9092"));
    }

    #[test]
    fn each_saved_flag_is_an_argument() {
        let (args, matches) = arguments("event-generator --rate max");
        let saved = object(to_json(&args.flags));
        assert!(saved.keys().all(|flag| matches.try_contains_id(flag).is_ok()), "{saved:?}");
        assert!(EXCLUSIVE.iter().copied().flatten().all(|flag| saved.contains_key(*flag)), "{saved:?}");
        assert!(!saved.contains_key("properties") && !saved.contains_key("kafka_config"), "{saved:?}");
    }

    #[test]
    fn the_command_of_a_supervisor_starts_a_run_and_resumes_it() {
        let started = resumed("--rate max --count 10", "--run-id other --resume-or-start --users 6").unwrap();
        assert_eq!((started.resume, started.flags.count, started.flags.events.users), (false, None, 6));
        let resumed = resumed("--rate max --count 10", "--run-id r --resume-or-start --count 10").unwrap();
        let events = resumed.flags.events;
        assert_eq!((resumed.resume, events.seed, events.run_id), (true, Some(7), None));
    }

    #[test]
    fn another_version_does_not_resume() {
        let failure = resumed_by("0.0.9", "--rate max --count 10", "--run-id r").unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("started by version 0.0.9"), "{failure}");
    }

    #[test]
    fn an_unknown_run_is_reported_with_the_unfinished_ones() {
        let failure = resumed("--rate max --count 10", "--run-id other").unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("unfinished runs: r"), "{failure}");
    }
}
