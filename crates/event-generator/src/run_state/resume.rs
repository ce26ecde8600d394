//! Beginning a run, or going on with one.

use std::path::PathBuf;

use event_model::Timestamp;
use lake::{Lake, manifest_key};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::in_words;
use serde_json::Value;

use crate::commands::run::args::RunArgs;
use crate::commands::run::config::Plan;
use crate::pipeline::Memory;
use crate::run_state::{Destination, Flags, RunFolder, RunState};
use crate::sinks::lake::indices_of;

/// What there is to do.
#[derive(Debug)]
pub enum Begun {
    /// To run, from the memory's state on.
    Run(Box<Memory>, Plan),
    /// Nothing: the process before this one was killed when all was done. Where the manifest is.
    FinishedBefore(PathBuf),
}

/// Takes the run on this host, and finds out where it begins.
pub async fn begin(
    args: &RunArgs,
    flags: Flags,
    plan: Plan,
    lake: Option<&Lake>,
    now: Timestamp,
) -> Result<Begun, Failure> {
    let folder = RunFolder::take(&args.state_dir(), &plan.run).map_err(anyhow::Error::new)?;
    let state = folder.state().map_err(anyhow::Error::new)?;
    if let Some(manifest) = folder.manifest().filter(|_| args.resume_if_begun && state.is_none()) {
        return Ok(Begun::FinishedBefore(manifest));
    }
    if let Some(lake) = lake.filter(|_| !plan.again)
        && let Some(manifest) = lake.manifest(&plan.run).await.map_err(in_words)?
    {
        if args.resume_if_begun || args.resume && state.is_some() {
            let path = folder.write_manifest(&manifest).map_err(anyhow::Error::new)?;
            folder.forget_state().map_err(anyhow::Error::new)?;
            return Ok(Begun::FinishedBefore(path));
        }
        return Err(Failure::usage(format!(
            "the run {} is finished: its manifest {}/{} has {} events. --again publishes it once more; another --seed, \
             --from or --run-id makes another run",
            plan.run,
            lake.url(),
            manifest_key(&plan.run),
            manifest.counts.outcomes.generated()
        )));
    }
    let settings = serde_json::to_value(plan.source.settings()).unwrap_or_default();
    let destination = destination(args, &plan);
    let (state, plan) = match state {
        Some(state) if args.resume => go_on(state, flags, &settings, &destination, plan)?,
        Some(state) => return Err(unfinished(&state, &folder)),
        None => (RunState::begin(plan.run.clone(), now, settings, destination, flags), plan),
    };
    Ok(Begun::Run(Box::new(Memory { folder, state }), plan))
}

fn destination(args: &RunArgs, plan: &Plan) -> Destination {
    Destination {
        topic: (!args.no_kafka).then(|| args.kafka.topic.clone()),
        lake: (!args.no_lake).then(|| args.lake.url().to_string()),
        segment_indices: indices_of(&plan.source),
    }
}

fn unfinished(state: &RunState, folder: &RunFolder) -> Failure {
    Failure::usage(format!(
        "the run {run} is not finished: it was killed, or stopped before all was stored, after {next} events or more. \
         `event-generator --resume --run-id {run}` goes on with it; to give it up, remove {folder}",
        run = state.run,
        next = state.safe.next_index,
        folder = folder.path().display()
    ))
}

/// The state and the plan of a run that is gone on with, if it is the same run.
fn go_on(
    mut state: RunState,
    flags: Flags,
    settings: &Value,
    destination: &Destination,
    mut plan: Plan,
) -> Result<(RunState, Plan), Failure> {
    let mut other = differences("", &state.settings, settings);
    let destinations = [&state.destination, destination].map(|to| serde_json::to_value(to).unwrap_or_default());
    other.extend(differences("", &destinations[0], &destinations[1]));
    if !other.is_empty() {
        return Err(Failure::usage(format!(
            "--resume: that would not be the run {}: {}. Leave these flags out: what a run began with is remembered",
            state.run,
            other.join(", ")
        )));
    }
    if let Some(sealed) = state.sealed {
        plan.count = Some(sealed.next_index);
    } else if let Some(count) = plan.count.filter(|count| *count < state.reserved) {
        return Err(Failure::usage(format!(
            "--resume: up to {} events of the run {} may have been sent already: it can't end after {count}",
            state.reserved, state.run
        )));
    }
    state.resumes += 1;
    state.flags = flags;
    Ok((state, plan))
}

/// Where two settings differ, as `users (500 then, 1000 now)`.
fn differences(path: &str, then: &Value, now: &Value) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (then, now) else {
        let name = path.trim_start_matches('.');
        return if then == now { Vec::new() } else { vec![format!("{name} ({then} then, {now} now)")] };
    };
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |object: &serde_json::Map<String, Value>, name: &str| object.get(name).cloned().unwrap_or_default();
    names.into_iter().flat_map(|name| differences(&format!("{path}.{name}"), &of(a, name), &of(b, name))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_is_named() {
        let then = json!({"seed": 7, "world": {"users": 500, "names": ["a"]}, "gone": 1});
        assert_eq!(differences("", &then, &then), [""; 0]);
        let now = json!({"seed": 7, "world": {"users": 1000, "names": ["b"]}, "new": true});
        let expected = [
            "gone (1 then, null now)",
            "new (null then, true now)",
            "world.names ([\"a\"] then, [\"b\"] now)",
            "world.users (500 then, 1000 now)",
        ];
        assert_eq!(differences("", &then, &now), expected);
    }
}
