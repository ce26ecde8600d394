//! Opens a run: starts a new one or resumes an unfinished one.

use std::path::PathBuf;

use event_model::Timestamp;
use lake::{Lake, Manifest, RunId, manifest_key};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::with_hint;
use serde_json::{Map, Value};

use super::folder::RunFolder;
use super::state::{Destination, RunState};

/// A run that this process holds: its locked folder and its state.
#[derive(Debug)]
pub(crate) struct RunHandle {
    pub(crate) folder: RunFolder,
    pub(crate) state: RunState,
}

/// The run to open.
#[derive(Debug)]
pub(crate) struct RunRequest {
    pub(crate) state_dir: PathBuf,
    pub(crate) run: RunId,
    pub(crate) mode: StartMode,
    /// Settings that determine the events.
    pub(crate) settings: Value,
    pub(crate) destination: Destination,
    /// Flags to save for a resume.
    pub(crate) flags: Value,
    /// Number of events, if the run has an end.
    pub(crate) count: Option<u64>,
}

/// Treatment of a run that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// Fails if the run is unfinished or finished.
    New,
    /// Publishes a finished run again.
    Republish,
    /// Resumes an unfinished run.
    Resume,
    /// Starts a new run, or does nothing if the run is finished. For an unfinished run the flags resolve to
    /// [`StartMode::Resume`] instead.
    ResumeOrStart,
}

/// Result of [`open_run`].
#[derive(Debug)]
pub(crate) enum OpenedRun {
    Ready(Box<RunHandle>),
    /// The run is finished; the path is that of its manifest.
    AlreadyFinished(PathBuf),
}

/// Locks the run on this host and determines where it starts.
pub(crate) async fn open_run(request: RunRequest, lake: Option<&Lake>, now: Timestamp) -> Result<OpenedRun, Failure> {
    let folder = RunFolder::lock(&request.state_dir, &request.run)?;
    let state = folder.state()?;
    let mode = request.mode;
    if let Some(manifest) = folder.manifest().filter(|_| mode == StartMode::ResumeOrStart && state.is_none()) {
        return Ok(OpenedRun::AlreadyFinished(manifest));
    }
    if let Some(lake) = lake.filter(|_| mode != StartMode::Republish)
        && let Some(manifest) = lake.manifest(&request.run).await.map_err(with_hint)?
    {
        // An earlier process was killed after it wrote the manifest to the lake.
        if mode == StartMode::ResumeOrStart || mode == StartMode::Resume && state.is_some() {
            let path = folder.write_manifest(&manifest)?;
            folder.remove_state()?;
            return Ok(OpenedRun::AlreadyFinished(path));
        }
        return Err(finished(&manifest, lake));
    }
    let state = match state {
        Some(state) if mode == StartMode::Resume => resume(state, request)?,
        Some(state) => return Err(unfinished(&state, &folder)),
        None => RunState::new(request.run, now, request.settings, request.destination, request.flags),
    };
    Ok(OpenedRun::Ready(Box::new(RunHandle { folder, state })))
}

fn finished(manifest: &Manifest, lake: &Lake) -> Failure {
    let run = &manifest.run.id;
    Failure::usage(format!(
        "cannot start run {run}: it is finished, its manifest {}/{} records {} events; publish it again with \
         --republish, or choose another --seed, --from or --run-id",
        lake.url(),
        manifest_key(run),
        manifest.counts.outcomes.generated()
    ))
}

fn unfinished(state: &RunState, folder: &RunFolder) -> Failure {
    Failure::usage(format!(
        "cannot start run {run}: it is not finished and stopped after at least {next} events; resume it with \
         'event-generator --resume --run-id {run}', or remove {folder} to abandon it",
        run = state.run,
        next = state.durable_prefix.next_index,
        folder = folder.path().display()
    ))
}

/// Returns the state of a resumed run, provided that the flags describe the same run.
fn resume(mut state: RunState, request: RunRequest) -> Result<RunState, Failure> {
    let mut changed = differences("", &state.settings, &request.settings);
    let destinations =
        [&state.destination, &request.destination].map(|to| serde_json::to_value(to).unwrap_or_default());
    changed.extend(differences("", &destinations[0], &destinations[1]));
    if !changed.is_empty() {
        return Err(Failure::usage(format!(
            "cannot resume run {}: its settings differ: {}; omit these flags",
            state.run,
            changed.join(", ")
        )));
    }
    if state.run_end.is_none()
        && let Some(count) = request.count.filter(|count| *count < state.reserved)
    {
        return Err(Failure::usage(format!(
            "cannot resume run {}: it cannot end after {count} events, as up to {} may have been sent; give a larger \
             --count",
            state.run, state.reserved
        )));
    }
    state.resumes += 1;
    state.flags = request.flags;
    Ok(state)
}

/// Lists the differences between two settings, each as `users (500 saved, 1000 given)`.
fn differences(path: &str, then: &Value, now: &Value) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (then, now) else {
        let name = path.trim_start_matches('.');
        return if then == now { Vec::new() } else { vec![format!("{name} ({then} saved, {now} given)")] };
    };
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |object: &Map<String, Value>, name: &str| object.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .flat_map(|name| differences(&format!("{path}.{name}"), &value(a, name), &value(b, name)))
        .collect()
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
            "gone (1 saved, null given)",
            "new (null saved, true given)",
            "world.names ([\"a\"] saved, [\"b\"] given)",
            "world.users (500 saved, 1000 given)",
        ];
        assert_eq!(differences("", &then, &now), expected);
    }
}
