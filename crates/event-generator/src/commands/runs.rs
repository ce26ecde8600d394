//! `runs`: lists the runs on this host and in the lake, and removes old ones from this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use event_model::Timestamp;
use lake::{Key, Lake, Manifest, RunId};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::{LakeArgs, with_hint};
use pipeline_runtime::output;
use pipeline_runtime::units::{TimeSpan, grouped};
use serde::Serialize;

use crate::clock::Clock;
use crate::run_state::{LocalRun, LocalStatus, default_state_dir, local_runs, remove};

const EXAMPLES: &str = "\
Examples:
  event-generator runs                     list all runs
  event-generator runs --no-lake           list the runs on this host only
  event-generator runs --prune 90d         remove old finished runs from this host";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Do not list the runs in the lake
    #[arg(long, conflicts_with = "lake", help_heading = "Lake")]
    no_lake: bool,
    /// Folder for the state of unfinished runs and the manifests of finished runs
    /// [default: $XDG_STATE_HOME/event-generator or ~/.local/state/event-generator]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Remove runs that finished longer ago than this from the state folder, such as 90d. Files in the lake stay.
    /// --resume-or-start starts a removed run again unless its manifest is in the lake
    #[arg(long, value_name = "AGE", allow_hyphen_values = true, conflicts_with_all = ["lake", "no_lake", "json"])]
    prune: Option<TimeSpan>,
    /// Print a JSON array, one object per run
    #[arg(long)]
    json: bool,
}

/// A run, from this host, from the lake or from both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Run {
    /// Name of the run.
    #[serde(rename = "run")]
    id: RunId,
    status: Status,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// Number of events that are stored.
    events: u64,
    resumes: u64,
    on_this_host: bool,
    in_lake: bool,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// A process on this host holds the run.
    Running,
    Unfinished,
    Finished,
    /// Its state on this host cannot be read.
    Unreadable,
}

impl Run {
    /// Creates a run of which only the status is known.
    fn new(id: RunId, status: Status) -> Self {
        Self {
            id,
            status,
            started_at: None,
            finished_at: None,
            events: 0,
            resumes: 0,
            on_this_host: false,
            in_lake: false,
            error: None,
        }
    }
}

pub(crate) fn execute(args: &RunsArgs) -> Result<(), Failure> {
    let state_dir = args.state_dir.clone().unwrap_or_else(default_state_dir);
    let local = local_runs(&state_dir).with_context(|| format!("cannot list {}", state_dir.display()))?;
    if let Some(age) = args.prune {
        return prune(&state_dir, &local, Clock::start().now(), age.get());
    }
    let in_lake = if args.no_lake { BTreeMap::new() } else { read_lake(&args.lake)? };
    let runs = merged(local, in_lake);
    if args.json {
        let array = serde_json::to_value(&runs).context("cannot format the runs")?;
        return output::line(format_args!("{array:#}"));
    }
    if runs.is_empty() {
        return output::line(format_args!("no runs in {}", state_dir.display()));
    }
    output::line(table(&runs))
}

fn prune(state_dir: &Path, runs: &[LocalRun], now: Timestamp, age: Duration) -> Result<(), Failure> {
    let old: Vec<&LocalRun> = runs.iter().filter(|one| finished_before(&one.status, now, age)).collect();
    for one in &old {
        remove(state_dir, &one.run)?;
        output::line(format_args!("removed {}", one.folder.display()))?;
    }
    if old.is_empty() { output::line(format_args!("no run on this host finished before that")) } else { Ok(()) }
}

fn finished_before(status: &LocalStatus, now: Timestamp, age: Duration) -> bool {
    let LocalStatus::Finished(manifest) = status else { return false };
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    manifest.finished_at.is_some_and(|finished| finished.micros() < now.micros().saturating_sub(age))
}

fn read_lake(args: &LakeArgs) -> Result<BTreeMap<RunId, Manifest>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the async runtime")?;
    Ok(runtime.block_on(async { manifests(&args.open().await?).await })?)
}

/// Reads the manifests and drafts of the lake. A manifest has precedence over a draft of the same run.
async fn manifests(lake: &Lake) -> anyhow::Result<BTreeMap<RunId, Manifest>> {
    let mut manifests: BTreeMap<RunId, Manifest> = BTreeMap::new();
    for object in lake.list("runs/").await.map_err(with_hint)? {
        let (run, read) = match object.key.parse() {
            Ok(Key::Manifest { run }) => (run.clone(), lake.manifest(&run).await),
            Ok(Key::Draft { run }) => (run.clone(), lake.draft(&run).await),
            _ => continue,
        };
        // A run can finish between the listing and the read, which removes its draft.
        let Some(manifest) = read.map_err(with_hint)? else { continue };
        if manifest.finished_at.is_some() || !manifests.contains_key(&run) {
            manifests.insert(run, manifest);
        }
    }
    Ok(manifests)
}

/// Merges the runs of this host and of the lake, in the order of their start.
fn merged(local: Vec<LocalRun>, in_lake: BTreeMap<RunId, Manifest>) -> Vec<Run> {
    let mut runs: BTreeMap<RunId, Run> = in_lake
        .into_iter()
        .map(|(run, manifest)| (run.clone(), Run { in_lake: true, ..of_manifest(run, &manifest) }))
        .collect();
    for LocalRun { run, status, .. } in local {
        let in_lake = runs.get(&run);
        let here = match status {
            // The run finished on another host, or was killed between the lake's manifest and this host's.
            LocalStatus::Unfinished { .. } if in_lake.is_some_and(|run| run.status == Status::Finished) => {
                in_lake.cloned()
            }
            LocalStatus::Unfinished { state, running } => Some(Run {
                started_at: Some(state.started_at),
                events: state.durable_prefix.next_index,
                resumes: state.resumes,
                ..Run::new(run.clone(), if running { Status::Running } else { Status::Unfinished })
            }),
            LocalStatus::Finished(manifest) => Some(of_manifest(run.clone(), &manifest)),
            LocalStatus::Unreadable(error) => {
                Some(Run { error: Some(error), ..Run::new(run.clone(), Status::Unreadable) })
            }
        };
        let Some(here) = here else { continue };
        let in_lake = in_lake.is_some();
        runs.insert(run, Run { on_this_host: true, in_lake, ..here });
    }
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by_key(|run| run.started_at);
    runs
}

fn of_manifest(run: RunId, manifest: &Manifest) -> Run {
    Run {
        started_at: Some(manifest.started_at),
        finished_at: manifest.finished_at,
        events: manifest.next_index.saturating_sub(manifest.first_index),
        resumes: manifest.resumes,
        ..Run::new(run, if manifest.finished_at.is_some() { Status::Finished } else { Status::Unfinished })
    }
}

fn table(runs: &[Run]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["run", "status", "started (UTC)", "events", "stored"]);
    for run in runs {
        let status = match run.status {
            Status::Running => "running",
            Status::Unfinished => "unfinished",
            Status::Finished => "finished",
            Status::Unreadable => "unreadable",
        };
        let started = run.started_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let stored = match (run.on_this_host, run.in_lake) {
            (true, true) => "host, lake",
            (true, false) => "host",
            _ => "lake",
        };
        let started = started.get(..16).unwrap_or(&started).replace('T', " ");
        table.add_row([run.id.as_str(), status, &started, &grouped(run.events), stored]);
    }
    if let Some(events) = table.column_mut(3) {
        events.set_cell_alignment(CellAlignment::Right);
    }
    let errors: Vec<String> =
        runs.iter().filter_map(|run| run.error.as_ref().map(|error| format!("\n{error}"))).collect();
    format!("{table}{}", errors.concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;
    use crate::run_state::{Destination, RunState};

    fn manifest(finished_at: Option<&str>) -> Manifest {
        let finished_at: Option<Timestamp> = finished_at.map(|at| at.parse().unwrap());
        serde_json::from_value(json!({
            "version": 1, "run": {"id": "night", "tag": "5a52d93c6"},
            "program": {"name": "event-generator", "version": "0.1.0"}, "settings": {},
            "started_at": "2026-11-22T10:00:00Z", "finished_at": finished_at, "end": null,
            "first_index": 0, "next_index": 1_000_000, "counts": {}, "kafka": null, "lake": null,
        }))
        .unwrap()
    }

    fn unfinished(run: &str, running: bool) -> LocalRun {
        let destination = Destination { topic: None, lake: None, segment_indices: 7 };
        let started_at = "2026-11-22T09:00:00Z".parse().unwrap();
        let state = RunState::new(run.parse().unwrap(), started_at, json!({}), destination, json!({}));
        let status = LocalStatus::Unfinished { state: Box::new(state), running };
        LocalRun { run: run.parse().unwrap(), folder: PathBuf::from(run), status }
    }

    #[test]
    fn host_and_lake_are_merged_in_the_order_of_the_start() {
        let lake = |finished| BTreeMap::from([("night".parse().unwrap(), manifest(finished))]);
        let runs = merged(vec![unfinished("night", false), unfinished("day", true)], lake(None));
        let found: Vec<_> = runs.iter().map(|run| (run.id.as_str(), run.status, run.in_lake)).collect();
        assert_eq!(found, [("day", Status::Running, false), ("night", Status::Unfinished, true)]);
        let runs = merged(vec![unfinished("night", false)], lake(Some("2026-11-22T11:00:00Z")));
        assert_eq!((runs[0].status, runs[0].events, runs[0].on_this_host), (Status::Finished, 1_000_000, true));
        let shown = table(&runs);
        assert!(shown.contains("1,000,000") && shown.contains("host, lake"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }

    #[test]
    fn only_finished_runs_grow_old() {
        let now = "2026-11-24T11:00:00Z".parse().unwrap();
        let finished = LocalStatus::Finished(Box::new(manifest(Some("2026-11-22T11:00:00Z"))));
        let day = Duration::from_hours(24);
        assert!(finished_before(&finished, now, day));
        assert!(!finished_before(&finished, now, 2 * day));
        assert!(!finished_before(&unfinished("day", false).status, now, Duration::ZERO));
    }
}
