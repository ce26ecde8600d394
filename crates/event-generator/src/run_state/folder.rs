//! A run's folder on this host.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use lake::{Manifest, RunId};
use thiserror::Error;

use super::{RunState, STATE_VERSION};

const LOCK: &str = "lock";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// What is wrong with a run's folder.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another process makes this run.
    #[error(
        "the run {run} is being made by process {pid} on this host, which holds {}; wait for its end, or give this one \
         another --run-id",
        path.display()
    )]
    Locked {
        /// The run.
        run: RunId,
        /// The process, as it has written itself down.
        pid: String,
        /// The lock.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("can't {action} {}: {source}; --state-dir names another folder", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Not a state, or not one of this program.
    #[error("{} can't be read: {problem}; remove it to give the run up", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A folder that is this process' own as long as this value lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held, not used: the system gives it up when the process ends, however it ends.
    _lock: File,
}

/// `$XDG_STATE_HOME/event-generator`, by default `~/.local/state/event-generator`.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")));
    base.map_or_else(|| PathBuf::from(".event-generator"), |base| base.join("event-generator"))
}

/// The names of the runs in a state folder that are not finished, as far as they can be seen.
#[must_use]
pub fn unfinished_runs(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let unfinished = entries.filter(|entry| entry.path().join(STATE).exists());
    let mut names: Vec<String> = unfinished.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

impl RunFolder {
    /// Makes a run's folder where there is none, and takes it.
    pub fn take(state_dir: &Path, run: &RunId) -> Result<Self, StateError> {
        let path = state_dir.join(run.as_str());
        fs::create_dir_all(&path).map_err(failed("make the folder", &path))?;
        let place = path.join(LOCK);
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&place)
            .map_err(failed("open", &place))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Whoever has it may be about to write it.
                let _ = lock.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "(unknown)".to_owned() } else { pid.trim().to_owned() };
                return Err(StateError::Locked { run: run.clone(), pid, path: place });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &place)(error)),
        }
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", process::id()));
        written.map_err(failed("write", &place))?;
        Ok(Self { path, _lock: lock })
    }

    /// A run's state, without taking the folder; none where the run is finished or was never there.
    pub fn look(state_dir: &Path, run: &RunId) -> Result<Option<RunState>, StateError> {
        read_state(&state_dir.join(run.as_str()).join(STATE))
    }

    /// The run's state; none where it is finished or begins.
    pub fn state(&self) -> Result<Option<RunState>, StateError> {
        read_state(&self.path.join(STATE))
    }

    /// Writes the state, so that it outlives a power cut: the old one or the new one is there, whole.
    pub fn write_state(&self, state: &RunState) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| self.damaged(STATE, &error))?;
        self.replace(STATE, &text)
    }

    /// Writes the manifest of a run that goes on or ends, and gives its path.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<PathBuf, StateError> {
        let text = manifest.to_json().map_err(|error| self.damaged(MANIFEST, &error))?;
        self.replace(MANIFEST, &text)?;
        Ok(self.path.join(MANIFEST))
    }

    /// Where the run's manifest is, if it has ended here before.
    #[must_use]
    pub fn manifest(&self) -> Option<PathBuf> {
        Some(self.path.join(MANIFEST)).filter(|path| path.exists())
    }

    /// Forgets the state: the run is finished.
    pub fn forget_state(&self) -> Result<(), StateError> {
        let path = self.path.join(STATE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => self.sync(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
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

fn read_state(path: &Path) -> Result<Option<RunState>, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let damaged = |problem: String| StateError::Damaged { path: path.to_owned(), problem };
    let state: RunState = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if state.version != STATE_VERSION {
        return Err(damaged(format!("it has version {}, this program reads {STATE_VERSION}", state.version)));
    }
    Ok(Some(state))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use serde_json::json;

    use super::*;
    use crate::run_state::{Destination, Flags};

    fn state() -> RunState {
        let destination = Destination { topic: Some("t".to_owned()), lake: None, segment_indices: 7 };
        let from = "2026-11-22T10:00:00Z".parse().unwrap();
        RunState::begin("r".parse().unwrap(), from, json!({"seed": 7}), destination, Flags::default())
    }

    #[test]
    fn one_process_has_the_run_and_its_number_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let run: RunId = "night".parse().unwrap();
        let first = RunFolder::take(folder.path(), &run).unwrap();
        let error = RunFolder::take(folder.path(), &run).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", process::id())) && error.contains("night"), "{error}");
        RunFolder::take(folder.path(), &"day".parse().unwrap()).unwrap();
        drop(first);
        RunFolder::take(folder.path(), &run).unwrap();
    }

    #[test]
    fn the_state_is_what_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = state();
        let folder = RunFolder::take(dir.path(), &state.run).unwrap();
        assert_eq!(folder.state().unwrap(), None);
        folder.write_state(&state).unwrap();
        state.reserved = 9;
        folder.write_state(&state).unwrap();
        assert_eq!(folder.state().unwrap(), Some(state.clone()));
        assert_eq!(unfinished_runs(dir.path()), ["r"]);
        folder.forget_state().unwrap();
        folder.forget_state().unwrap();
        assert_eq!(RunFolder::look(dir.path(), &state.run).unwrap(), None);
        assert_eq!(unfinished_runs(dir.path()), [""; 0]);
    }

    #[test]
    fn what_is_no_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::take(dir.path(), &"r".parse().unwrap()).unwrap();
        let later = serde_json::to_string(&RunState { version: 2, ..state() }).unwrap();
        for text in ["", "{}", &later] {
            fs::write(folder.path().join(STATE), text).unwrap();
            let error = folder.state().unwrap_err();
            assert!(error.to_string().contains("state.json"), "{error}");
        }
    }
}
