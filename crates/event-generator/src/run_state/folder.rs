//! The folder of a run on this host.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use lake::{Manifest, Program, RunId};
use pipeline_runtime::exit::Failure;
use serde::Deserialize;
use thiserror::Error;

use super::state::{RunState, STATE_VERSION};

pub(super) const LOCK: &str = "lock";
const STATE: &str = "state.json";
pub(super) const MANIFEST: &str = "manifest.json";

/// An error of a run's folder.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    /// Another process holds the run. The process ID is the one that it wrote to its lock.
    #[error(
        "cannot lock run {run}: process {pid} on this host holds {}; wait until it ends, or choose another --run-id",
        path.display()
    )]
    Locked { run: RunId, pid: String, path: PathBuf },
    #[error("cannot {action} {}: {source}; choose another folder with --state-dir", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The state has the format of another version of this program.
    #[error(
        "cannot use {}: its format is {found}, and this program reads format {STATE_VERSION}; finish the run with \
         event-generator {program}, which started it, or remove the file to abandon the run",
        path.display()
    )]
    OtherFormat { path: PathBuf, found: u32, program: String },
    #[error("cannot read {}: {problem}; remove it to abandon the run", path.display())]
    Damaged { path: PathBuf, problem: String },
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::OtherFormat { .. } => Self::usage(error.to_string()),
            other => Self::Failed(other.into()),
        }
    }
}

/// The folder of a run, locked as long as this value lives.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// The system releases the lock when the process ends, even if it is killed.
    _lock: File,
}

/// Returns `$XDG_STATE_HOME/event-generator`, by default `~/.local/state/event-generator`.
pub(crate) fn default_state_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")));
    base.map_or_else(|| PathBuf::from(".event-generator"), |base| base.join("event-generator"))
}

/// Returns the names of the unfinished runs in a state folder that are readable.
pub(crate) fn unfinished_runs(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let unfinished = entries.filter(|entry| entry.path().join(STATE).exists());
    let mut names: Vec<String> = unfinished.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

impl RunFolder {
    /// Creates the folder of a run if necessary, and locks it.
    pub(crate) fn lock(state_dir: &Path, run: &RunId) -> Result<Self, StateError> {
        let path = state_dir.join(run.as_str());
        fs::create_dir_all(&path).map_err(failed("create the folder", &path))?;
        let lock_path = path.join(LOCK);
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The owner may not have written it yet.
                let _ = lock.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
                return Err(StateError::Locked { run: run.clone(), pid, path: lock_path });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
        }
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", process::id()));
        written.map_err(failed("write", &lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Reads the state of a run without locking it. Returns `None` if the run is finished or unknown.
    pub(crate) fn read_state_of(state_dir: &Path, run: &RunId) -> Result<Option<RunState>, StateError> {
        read_state(&state_dir.join(run.as_str()).join(STATE))
    }

    /// Reads the state of the run. Returns `None` if the run is finished or new.
    pub(crate) fn state(&self) -> Result<Option<RunState>, StateError> {
        read_state(&self.path.join(STATE))
    }

    /// Replaces the state atomically and durably: after a power failure either the old or the new one is complete.
    pub(crate) fn write_state(&self, state: &RunState) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| self.damaged(STATE, &error))?;
        self.replace(STATE, &text)
    }

    /// Replaces the manifest and returns its path.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<PathBuf, StateError> {
        let text = manifest.to_json().map_err(|error| self.damaged(MANIFEST, &error))?;
        self.replace(MANIFEST, &text)?;
        Ok(self.path.join(MANIFEST))
    }

    /// Returns the path of the manifest, if the run ended on this host before.
    pub(crate) fn manifest(&self) -> Option<PathBuf> {
        Some(self.path.join(MANIFEST)).filter(|path| path.exists())
    }

    /// Removes the state of a finished run.
    pub(crate) fn remove_state(&self) -> Result<(), StateError> {
        let path = self.path.join(STATE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => self.sync(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn replace(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let (path, temporary) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = File::create(&temporary).and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
        written.map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("write", &path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StateError> {
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.path))
    }

    fn damaged(&self, name: &str, problem: &dyn std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.join(name), problem: problem.to_string() }
    }
}

/// The fields of a state that each format has.
#[derive(Deserialize)]
struct Format {
    version: u32,
    program: Program,
}

fn read_state(path: &Path) -> Result<Option<RunState>, StateError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let damaged = |error: serde_json::Error| StateError::Damaged { path: path.to_owned(), problem: error.to_string() };
    let Format { version, program } = serde_json::from_slice(&text).map_err(damaged)?;
    if version != STATE_VERSION {
        return Err(StateError::OtherFormat { path: path.to_owned(), found: version, program: program.version });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Reads a manifest on this host. Returns `None` if it does not exist.
pub(super) fn read_manifest(path: &Path) -> Result<Option<Manifest>, StateError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let damaged = |error: lake::LakeError| StateError::Damaged { path: path.to_owned(), problem: error.to_string() };
    Manifest::from_json(&path.to_string_lossy(), &text).map(Some).map_err(damaged)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::run_state::state::test_state;

    fn state() -> RunState {
        test_state("r")
    }

    #[test]
    fn a_locked_run_names_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let run: RunId = "night".parse().unwrap();
        let first = RunFolder::lock(folder.path(), &run).unwrap();
        let error = RunFolder::lock(folder.path(), &run).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", process::id())) && error.contains("night"), "{error}");
        RunFolder::lock(folder.path(), &"day".parse().unwrap()).unwrap();
        drop(first);
        RunFolder::lock(folder.path(), &run).unwrap();
    }

    #[test]
    fn the_last_state_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = state();
        let folder = RunFolder::lock(dir.path(), &state.run).unwrap();
        assert_eq!(folder.state().unwrap(), None);
        folder.write_state(&state).unwrap();
        state.reserved = 9;
        folder.write_state(&state).unwrap();
        assert_eq!(folder.state().unwrap(), Some(state.clone()));
        assert_eq!(unfinished_runs(dir.path()), ["r"]);
        folder.remove_state().unwrap();
        folder.remove_state().unwrap();
        assert_eq!(RunFolder::read_state_of(dir.path(), &state.run).unwrap(), None);
        assert_eq!(unfinished_runs(dir.path()), [""; 0]);
    }

    #[test]
    fn a_damaged_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::lock(dir.path(), &"r".parse().unwrap()).unwrap();
        for text in ["", "{}", "{\"version\": 2}"] {
            fs::write(folder.path().join(STATE), text).unwrap();
            let error = folder.state().unwrap_err();
            assert!(error.to_string().contains("state.json"), "{error}");
        }
    }

    /// As written before the names of flags and fields changed.
    const FORMAT_1: &str = r#"{
        "version": 1,
        "run": "r",
        "program": {"name": "event-generator", "version": "0.1.0"},
        "started_at": "2026-11-22T10:00:00.000000Z",
        "resumes": 0,
        "settings": {"seed": 7, "pad": 0},
        "destination": {"topic": "t", "lake": null, "segment_indices": 7},
        "flags": {"rate": ["max"], "count": ["10"], "then-live": ["true"]},
        "reserved": 9,
        "sealed": null,
        "safe": {"next_segment": 1, "next_index": 7, "counts": {}, "end_offsets": {}, "files": {}}
    }"#;

    #[test]
    fn a_state_of_another_format_is_kept_and_names_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::lock(dir.path(), &"r".parse().unwrap()).unwrap();
        let later = serde_json::to_string(&RunState { version: STATE_VERSION + 1, ..state() }).unwrap();
        for text in [FORMAT_1, &later] {
            fs::write(folder.path().join(STATE), text).unwrap();
            let failure = Failure::from(folder.state().unwrap_err());
            assert_eq!(failure.code(), 2);
            assert!(failure.to_string().contains("event-generator 0.1.0, which started it"), "{failure}");
            assert_eq!(fs::read_to_string(folder.path().join(STATE)).unwrap(), text);
        }
    }
}
