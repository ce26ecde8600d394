//! The flags of a run that is gone on with: as they were given when it began, and what is said anew.

use std::collections::BTreeSet;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use lake::RunId;
use pipeline_runtime::exit::Failure;

use crate::commands::run::args::RunArgs;
use crate::run_state::{Flags, RunFolder, RunState, unfinished_runs};

/// What is remembered of each run: which events, how many, how fast and where to. What may be secret is not among it, nor
/// what belongs to a machine.
const REMEMBERED: [&str; 2] = ["How much", "Which events"];
const REMEMBERED_TOO: [&str; 6] = ["topic", "bootstrap-servers", "no-kafka", "no-headers", "lake", "no-lake"];
const OF_THE_MOMENT: [&str; 4] = ["run-id", "resume", "resume-if-begun", "again"];
/// Of these only one can be said: a new one takes the place of the one that is remembered.
const INSTEAD: [&[&str]; 3] = [&["count", "duration", "to"], &["lake", "no-lake"], &["topic", "no-kafka"]];

/// The flags to run with, and those of them that are to be remembered.
pub fn recall(args: &RunArgs, matches: &ArgMatches) -> Result<(RunArgs, Flags), Failure> {
    let command = RunArgs::augment_args(Command::new("event-generator"));
    let given = given(&command, matches);
    let Some(name) = args.shape.run_id.as_ref().filter(|_| args.resume || args.resume_if_begun) else {
        return Ok((args.clone(), given));
    };
    let run: RunId = name.parse().map_err(|error| Failure::usage(format!("--run-id: {error}")))?;
    let state = RunFolder::look(&args.state_dir(), &run).map_err(anyhow::Error::new)?;
    let Some(state) = state else {
        return if args.resume { Err(nothing_there(args, name)) } else { Ok((args.clone(), given)) };
    };
    same_version(&state)?;
    let flags = merged(&state, given);
    let mut all = parse(command, &flags)?;
    // A run that has its name from its settings has none among them.
    all.shape.run_id = state.settings.get("run_id").and_then(|name| name.as_str()).map(str::to_owned);
    let RunArgs { kafka, threads, state_dir, memory_limit, http_addr, print_config, .. } = args.clone();
    all.kafka.properties = kafka.properties;
    all.kafka.kafka_config = kafka.kafka_config;
    Ok((RunArgs { resume: true, threads, state_dir, memory_limit, http_addr, print_config, ..all }, flags))
}

/// Another version may make other events of the same settings.
fn same_version(state: &RunState) -> Result<(), Failure> {
    let (began, this) = (&state.program.version, env!("CARGO_PKG_VERSION"));
    if began == this {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--resume: the run {} was begun by version {began} of this program, and version {this} may make other events: go on \
         with that version",
        state.run
    )))
}

fn nothing_there(args: &RunArgs, name: &str) -> Failure {
    let folder = args.state_dir();
    let there = unfinished_runs(&folder);
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Failure::usage(format!(
        "--resume: there is no unfinished run {name} in {}; those that are: {there}. A run can be gone on with on the host \
         where it began; a finished one has its manifest there and in the lake",
        folder.display()
    ))
}

/// The flags that were given, on the command line or by variables, and are to be remembered.
fn given(command: &Command, matches: &ArgMatches) -> Flags {
    let mut flags = Flags::new();
    for argument in command.get_arguments() {
        let (id, Some(flag)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
        let heading = argument.get_help_heading().unwrap_or_default();
        let remembered = REMEMBERED.contains(&heading) || REMEMBERED_TOO.contains(&flag);
        let said = matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if !remembered || !said || OF_THE_MOMENT.contains(&flag) {
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        flags.insert(flag.to_owned(), values.collect());
    }
    flags
}

/// What is remembered, and what is said now in its place.
fn merged(state: &RunState, given: Flags) -> Flags {
    let replaced: BTreeSet<&str> = INSTEAD
        .into_iter()
        .filter(|group| group.iter().any(|flag| given.contains_key(*flag)))
        .flatten()
        .copied()
        .collect();
    let mut flags: Flags = state.flags.iter().filter(|(flag, _)| !replaced.contains(flag.as_str())).map(own).collect();
    // Left to chance and to the clock when it began; since then they stand.
    for flag in ["seed", "from"] {
        let value = &state.settings[flag];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        flags.insert(flag.to_owned(), vec![value]);
    }
    flags.extend(given);
    flags
}

fn own((flag, values): (&String, &Vec<String>)) -> (String, Vec<String>) {
    (flag.clone(), values.clone())
}

fn parse(command: Command, flags: &Flags) -> Result<RunArgs, Failure> {
    let takes_value = |flag: &str| {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
        argument.is_some_and(|argument| argument.get_action().takes_values())
    };
    let mut line = vec!["event-generator".to_owned()];
    for (flag, values) in flags {
        if takes_value(flag) {
            line.extend(values.iter().map(|value| format!("--{flag}={value}")));
        } else if values.iter().any(|value| value == "true") {
            line.push(format!("--{flag}"));
        }
    }
    let matches = command.try_get_matches_from(line).map_err(|error| Failure::usage(error.to_string()))?;
    RunArgs::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use serde_json::json;

    use super::*;
    use crate::run_state::Destination;

    fn arguments(line: &str) -> (RunArgs, ArgMatches) {
        let command = RunArgs::augment_args(Command::new("event-generator"));
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        (RunArgs::from_arg_matches(&matches).unwrap(), matches)
    }

    /// The flags with which a run goes on that began with others.
    fn gone_on(began: &str, now: &str) -> Result<RunArgs, Failure> {
        gone_on_with(env!("CARGO_PKG_VERSION"), began, now)
    }

    fn gone_on_with(version: &str, began: &str, now: &str) -> Result<RunArgs, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let (args, matches) = arguments(&format!("event-generator {began}"));
        let (_, flags) = recall(&args, &matches).unwrap();
        let destination = Destination { topic: None, lake: None, segment_indices: 1 };
        let from = "2026-11-22T10:00:00Z";
        let settings = json!({"seed": 7, "from": from});
        let mut state = RunState::begin("r".parse().unwrap(), from.parse().unwrap(), settings, destination, flags);
        version.clone_into(&mut state.program.version);
        RunFolder::take(dir.path(), &state.run).unwrap().write_state(&state).unwrap();
        let resume = if now.contains("--resume") { "" } else { "--resume" };
        let line = format!("event-generator {resume} --state-dir {} {now}", dir.path().display());
        let (args, matches) = arguments(&line);
        recall(&args, &matches).map(|(args, _)| args)
    }

    #[test]
    fn a_run_goes_on_as_it_began() {
        let began = "--rate 0.5/s --count 10 --users 5 --fault invalid=1% --fault corrupt=2% --topic t --no-headers \
                     --lake file:///tmp -X sasl.password=secret";
        let args = gone_on(began, "--run-id r --threads 3").unwrap();
        assert!(args.resume && args.no_headers && args.kafka.properties.is_empty());
        assert_eq!((args.rate.to_string(), args.shape.users, args.shape.fault.len()), ("0.5/s".to_owned(), 5, 2));
        assert_eq!((args.shape.seed, args.shape.run_id, args.threads), (Some(7), None, Some(3)));
        assert_eq!(args.shape.from.unwrap().to_string(), "2026-11-22T10:00:00.000000Z");
        assert_eq!((args.kafka.topic, args.lake.lake.unwrap().to_string()), ("t".to_owned(), "file:///tmp".to_owned()));
    }

    #[test]
    fn what_is_said_now_counts() {
        let args = gone_on("--rate max --count 10 --users 5", "--run-id r --users 6 --duration 5s").unwrap();
        assert_eq!((args.count, args.shape.users), (None, 6));
    }

    #[test]
    fn a_supervisors_command_begins_a_run_and_goes_on_with_it() {
        let began = gone_on("--rate max --count 10", "--run-id other --resume-if-begun --users 6").unwrap();
        assert_eq!((began.resume, began.count, began.shape.users), (false, None, 6));
        let gone_on = gone_on("--rate max --count 10", "--run-id r --resume-if-begun --count 10").unwrap();
        assert_eq!((gone_on.resume, gone_on.shape.seed, gone_on.shape.run_id), (true, Some(7), None));
    }

    #[test]
    fn another_version_does_not_go_on() {
        let failure = gone_on_with("0.0.9", "--rate max --count 10", "--run-id r").unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("begun by version 0.0.9"), "{failure}");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let failure = gone_on("--rate max --count 10", "--run-id other").unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("those that are: r"), "{failure}");
    }
}
