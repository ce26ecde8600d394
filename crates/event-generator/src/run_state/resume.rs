//! Opens a run: starts a new one or resumes an unfinished one.

use std::path::PathBuf;

use event_model::Timestamp;
use lake::{End, Lake, Manifest, RunId, manifest_key};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::with_hint;
use serde_json::{Map, Value};

use super::folder::{MANIFEST, RunFolder, read_manifest};
use super::state::{Destination, RunEnd, RunState};

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
    /// Tag of the run: a hash of the settings and of the version of the events.
    pub(crate) tag: String,
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
    /// Publishes a finished run again. Fails if the settings are not those of its manifest.
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
    let replaces_manifest = mode == StartMode::Republish || state.as_ref().is_some_and(|state| state.republished);
    if let Some(lake) = lake.filter(|_| !replaces_manifest)
        && let Some(manifest) = lake.manifest(&request.run).await.map_err(with_hint)?
    {
        // An earlier process was killed after it wrote the manifest to the lake.
        if mode == StartMode::ResumeOrStart || mode == StartMode::Resume && state.is_some() {
            let path = folder.write_manifest(&manifest)?;
            folder.remove_state()?;
            return Ok(OpenedRun::AlreadyFinished(path));
        }
        return Err(finished(&manifest, &place_in(lake, &request.run)));
    }
    // Without a lake, the manifest on this host is the only one.
    if lake.is_none() && mode == StartMode::New && state.is_none() {
        let path = folder.path().join(MANIFEST);
        if let Some(manifest) = read_manifest(&path)? {
            return Err(finished(&manifest, &path.display().to_string()));
        }
    }
    let state = match state {
        Some(state) if mode == StartMode::Resume => resume(state, request)?,
        Some(state) => return Err(unfinished(&state, &folder)),
        None if mode == StartMode::Republish => {
            let (manifest, place) = finished_run(&request, &folder, lake).await?;
            republish(&manifest, &place, request, now)?
        }
        None => RunState::new(request.run, now, request.settings, request.destination, request.flags),
    };
    Ok(OpenedRun::Ready(Box::new(RunHandle { folder, state })))
}

fn finished(manifest: &Manifest, place: &str) -> Failure {
    Failure::usage(format!(
        "cannot start run {}: it is finished, its manifest {place} records {} events; publish it again with \
         --republish, or choose another --seed, --from or --run-id",
        manifest.run.id,
        manifest.counts.outcomes.generated()
    ))
}

fn place_in(lake: &Lake, run: &RunId) -> String {
    format!("{}/{}", lake.url(), manifest_key(run))
}

fn unfinished(state: &RunState, folder: &RunFolder) -> Failure {
    Failure::usage(format!(
        "cannot start run {run}: it is not finished and stopped after at least {next} events; resume it with \
         'event-generator --resume --run-id {run}', or remove {folder} to abandon it",
        run = state.run,
        next = state.acknowledged.next_index,
        folder = folder.path().display()
    ))
}

/// Reads the manifest of a finished run from the lake, or else from this host. Also returns its place.
async fn finished_run(
    request: &RunRequest,
    folder: &RunFolder,
    lake: Option<&Lake>,
) -> Result<(Manifest, String), Failure> {
    let run = &request.run;
    if let Some(lake) = lake
        && let Some(manifest) = lake.manifest(run).await.map_err(with_hint)?
    {
        return Ok((manifest, place_in(lake, run)));
    }
    let path = folder.path().join(MANIFEST);
    if let Some(manifest) = read_manifest(&path)? {
        return Ok((manifest, path.display().to_string()));
    }
    let lake = lake.map(|lake| format!(" and not in {}", lake.url())).unwrap_or_default();
    Err(Failure::usage(format!(
        "--republish: no finished run {run}: its manifest is not in {}{lake}; repeat the --seed, --from and other flags of \
         the run, or leave --republish out",
        folder.path().display()
    )))
}

/// Returns the state of a finished run that is published again, provided that the flags describe the same events.
fn republish(manifest: &Manifest, place: &str, request: RunRequest, now: Timestamp) -> Result<RunState, Failure> {
    let run = &request.run;
    let mut changed = differences("", &manifest.settings, &request.settings);
    if let Some(count) = request.count.filter(|count| *count != manifest.next_index) {
        changed.push(format!("count ({} saved, {count} given)", manifest.next_index));
    }
    if !changed.is_empty() {
        return Err(Failure::usage(format!(
            "--republish: run {run} has other settings: {}; repeat the flags of its start, {}; its manifest is {place}",
            changed.join(", "),
            flags_of(&manifest.settings)
        )));
    }
    if manifest.run.tag != request.tag {
        return Err(Failure::usage(format!(
            "--republish: run {run} was made by version {} of this program, and this version generates other events; \
             republish it with that version",
            manifest.program.version
        )));
    }
    let reason = manifest.end.unwrap_or(End::CountReached);
    Ok(RunState {
        // The copies in Kafka are the same as those of a resume.
        resumes: manifest.resumes + 1,
        republished: true,
        reserved: manifest.next_index,
        run_end: Some(RunEnd { next_index: manifest.next_index, reason }),
        ..RunState::new(request.run, now, request.settings, request.destination, request.flags)
    })
}

/// Returns the flags whose defaults differ from run to run.
fn flags_of(settings: &Value) -> String {
    let from = settings["from"].as_str().unwrap_or_default();
    let name = if settings["run_id"].is_null() { ", without --run-id" } else { "" };
    format!("--seed {} --from {from}{name}", settings["seed"])
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    fn settings() -> Value {
        json!({"seed": 7, "from": "2026-11-22T10:00:00.000000Z", "run_id": "night"})
    }

    fn request(settings: Value, tag: &str, count: Option<u64>) -> RunRequest {
        RunRequest {
            state_dir: PathBuf::new(),
            run: "night".parse().unwrap(),
            mode: StartMode::Republish,
            settings,
            tag: tag.to_owned(),
            destination: Destination { topic: None, lake: None, segment_indices: 7 },
            flags: json!({}),
            count,
        }
    }

    fn republished(settings: Value, tag: &str, count: Option<u64>) -> Result<RunState, Failure> {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let manifest = serde_json::from_value(json!({
            "version": 1, "run": {"id": "night", "tag": "5a52d93c6"},
            "program": {"name": "event-generator", "version": "0.1.0"}, "settings": self::settings(),
            "started_at": "2026-11-22T10:00:00Z", "finished_at": "2026-11-22T11:00:00Z", "end": "stopped", "resumes": 2,
            "first_index": 0, "next_index": 1_000, "counts": {}, "kafka": null, "lake": null,
        }));
        republish(&manifest.unwrap(), "s3://lake/runs/night.json", request(settings, tag, count), now)
    }

    #[test]
    fn a_finished_run_is_republished_up_to_its_end() {
        for count in [None, Some(1_000)] {
            let state = republished(settings(), "5a52d93c6", count).unwrap();
            assert_eq!(state.run_end, Some(RunEnd { next_index: 1_000, reason: End::Stopped }));
            assert_eq!((state.reserved, state.resumes, state.republished), (1_000, 3, true));
        }
    }

    #[test]
    fn other_events_are_not_published_under_the_name_of_a_finished_run() {
        let mut other = settings();
        other["seed"] = 99.into();
        for (settings, tag, count, part) in [
            (
                other,
                "0a1b2c3d4",
                None,
                "seed (7 saved, 99 given); repeat the flags of its start, --seed 7 --from 2026-11-22T1",
            ),
            (settings(), "5a52d93c6", Some(1_001), "count (1000 saved, 1001 given)"),
            (settings(), "0a1b2c3d4", None, "made by version 0.1.0"),
        ] {
            let failure = republished(settings, tag, count).unwrap_err();
            assert!(failure.code() == 2 && failure.to_string().contains(part), "{failure}");
        }
    }

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
