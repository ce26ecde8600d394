//! The runs in a state folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lake::{Manifest, RunId};

use super::folder::{LOCK, MANIFEST, RunFolder, StateError, read_manifest};
use super::state::RunState;

/// A run with a folder on this host.
#[derive(Debug)]
pub(crate) struct LocalRun {
    pub(crate) run: RunId,
    pub(crate) folder: PathBuf,
    pub(crate) status: LocalStatus,
}

/// Content of the folder of a run.
#[derive(Debug)]
pub(crate) enum LocalStatus {
    /// State of an unfinished run, and true if a process holds the run.
    Unfinished { state: Box<RunState>, running: bool },
    /// Manifest of a finished run.
    Finished(Box<Manifest>),
    /// The state or the manifest cannot be read.
    Unreadable(String),
}

/// Returns the runs in a state folder, in the order of their names. A folder that does not exist has none.
///
/// Ignores folders without a state and without a manifest: a run that was not started.
pub(crate) fn local_runs(state_dir: &Path) -> io::Result<Vec<LocalRun>> {
    let entries = match fs::read_dir(state_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        let Some(run) = folder.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        if let Some(status) = status(state_dir, &run, &folder) {
            runs.push(LocalRun { run, folder, status });
        }
    }
    runs.sort_unstable_by(|one, other| one.run.cmp(&other.run));
    Ok(runs)
}

fn status(state_dir: &Path, run: &RunId, folder: &Path) -> Option<LocalStatus> {
    let unreadable = |error: StateError| Some(LocalStatus::Unreadable(error.to_string()));
    match RunFolder::read_state_of(state_dir, run) {
        Ok(Some(state)) => {
            Some(LocalStatus::Unfinished { state: Box::new(state), running: is_locked(&folder.join(LOCK)) })
        }
        Ok(None) => match read_manifest(&folder.join(MANIFEST)) {
            Ok(manifest) => manifest.map(|manifest| LocalStatus::Finished(Box::new(manifest))),
            Err(error) => unreadable(error),
        },
        Err(error) => unreadable(error),
    }
}

/// Returns true if a process holds the run. The lock is shared and released at once.
fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes the folder of a finished run while no process holds it.
pub(crate) fn remove(state_dir: &Path, run: &RunId) -> Result<(), StateError> {
    let folder = RunFolder::lock(state_dir, run)?;
    fs::remove_dir_all(folder.path()).map_err(|source| StateError::Io {
        action: "remove",
        path: folder.path().to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::run_state::state::test_state;

    #[test]
    fn a_missing_folder_has_no_runs() {
        assert!(local_runs(Path::new("/no/such/folder")).unwrap().is_empty());
    }

    #[test]
    fn runs_are_running_unfinished_or_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        let held = RunFolder::lock(dir.path(), &"a".parse().unwrap()).unwrap();
        held.write_state(&test_state("a")).unwrap();
        RunFolder::lock(dir.path(), &"b".parse().unwrap()).unwrap().write_state(&test_state("b")).unwrap();
        RunFolder::lock(dir.path(), &"not-started".parse().unwrap()).unwrap();
        let damaged = RunFolder::lock(dir.path(), &"c".parse().unwrap()).unwrap();
        fs::write(damaged.path().join(MANIFEST), "{").unwrap();
        let runs = local_runs(dir.path()).unwrap();
        let found: Vec<(&str, &str)> = runs
            .iter()
            .map(|one| {
                let status = match &one.status {
                    LocalStatus::Unfinished { running: true, .. } => "running",
                    LocalStatus::Unfinished { .. } => "unfinished",
                    LocalStatus::Finished(_) => "finished",
                    LocalStatus::Unreadable(_) => "unreadable",
                };
                (one.run.as_str(), status)
            })
            .collect();
        assert_eq!(found, [("a", "running"), ("b", "unfinished"), ("c", "unreadable")]);
    }

    #[test]
    fn a_held_run_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let run: RunId = "a".parse().unwrap();
        let held = RunFolder::lock(dir.path(), &run).unwrap();
        assert!(matches!(remove(dir.path(), &run), Err(StateError::Locked { .. })));
        drop(held);
        remove(dir.path(), &run).unwrap();
        assert!(!dir.path().join("a").exists());
    }
}
