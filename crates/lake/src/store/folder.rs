//! A lake in a folder, with the same layout as on S3.
//!
//! A file is written as `.<name>.<process>-<number>.tmp` and then linked or renamed. Temporary files that a killed
//! process left behind do no harm and can be removed.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task;

use super::object::{Object, Put, compare, stored_hash};
use crate::content_hash::ContentHash;
use crate::error::LakeError;

#[derive(Debug, Clone)]
pub(super) struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    pub(super) async fn open(root: &Path) -> Result<Self, LakeError> {
        let store = Self { root: root.to_owned() };
        store.blocking(Self::check).await?;
        Ok(store)
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes, hash: ContentHash) -> Result<Put, LakeError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            match write_new(&path, &bytes) {
                Ok(()) => Ok(Put::Written),
                Err(LakeError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                    let there = fs::read(&path).map_err(failed("read", &path))?;
                    compare(&key, &store.root.to_string_lossy(), stored_hash(&key, &there.into()), hash)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    pub(super) async fn put_replacing(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            let temporary = Temporary::write_beside(&path, &bytes)?;
            fs::rename(&temporary.0, &path).map_err(failed("write", &path))?;
            sync(folder_of(&path))
        })
        .await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes.into())),
                // If the root is missing, the lake itself is unavailable, not just one file.
                Err(error) if error.kind() == ErrorKind::NotFound => store.check().map(|()| None),
                Err(error) => Err(failed("read", &path)(error)),
            }
        })
        .await
    }

    pub(super) async fn get_start(&self, key: &str, length: u64) -> Result<Option<Bytes>, LakeError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            let mut start = Vec::new();
            match File::open(&path).and_then(|file| file.take(length).read_to_end(&mut start)) {
                Ok(_) => Ok(Some(start.into())),
                Err(error) if error.kind() == ErrorKind::NotFound => store.check().map(|()| None),
                Err(error) => Err(failed("read", &path)(error)),
            }
        })
        .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, LakeError> {
        let prefix = prefix.to_owned();
        self.blocking(move |store| {
            store.check()?;
            let mut found = Vec::new();
            let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !folder.is_empty() {
                store.path(folder)?;
            }
            walk(&store.root.join(folder), folder, &prefix, &mut found)?;
            Ok(found)
        })
        .await
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), LakeError> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, LakeError> + Send + 'static,
    ) -> Result<T, LakeError> {
        let store = self.clone();
        let done = task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|stopped| Err(failed("access", &self.root)(io::Error::other(stopped))))
    }

    fn check(&self) -> Result<(), LakeError> {
        match fs::read_dir(&self.root) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(LakeError::NoFolder { path: self.root.clone() }),
            Err(error) => Err(failed("list", &self.root)(error)),
        }
    }

    /// Returns the path of a file. Refuses a key that leads out of the lake or to a file that `list` would hide.
    fn path(&self, key: &str) -> Result<PathBuf, LakeError> {
        let bad = |part: &str| part.is_empty() || part.starts_with('.') || part.contains(['\\', '\0']);
        if key.split('/').any(bad) {
            return Err(LakeError::Key { key: key.to_owned() });
        }
        Ok(self.root.join(key))
    }
}

/// Lists a folder recursively. A name that is not UTF-8 has U+FFFD in its key; the file cannot be read under that key.
fn walk(path: &Path, folder: &str, prefix: &str, found: &mut Vec<Object>) -> Result<(), LakeError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(failed("list", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("list", path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let key = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A dangling symlink is listed, so that reading it fails by name. Any other file was just removed.
                if entry.path().is_symlink() && key.starts_with(prefix) {
                    found.push(Object { key, size: 0, modified: None });
                }
                continue;
            }
            Err(error) => return Err(failed("inspect", &entry.path())(error)),
        };
        if metadata.is_dir() {
            walk(&entry.path(), &key, prefix, found)?;
        } else if key.starts_with(prefix) {
            found.push(Object { key, size: metadata.len(), modified: changed(&metadata) });
        }
    }
    Ok(())
}

/// Returns the time of the last change of a file or of its name: a file that was moved here keeps its old `mtime`.
fn changed(metadata: &Metadata) -> Option<SystemTime> {
    let renamed = u64::try_from(metadata.ctime()).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    metadata.modified().ok().max(renamed)
}

/// Writes a file atomically if it does not exist. A rename would replace an existing file, a hard link fails.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), LakeError> {
    // Avoids the write in the common case of a retry. The hard link below makes the check atomic.
    if path.exists() {
        return Err(failed("write", path)(ErrorKind::AlreadyExists.into()));
    }
    let temporary = Temporary::write_beside(path, bytes)?;
    fs::hard_link(&temporary.0, path).map_err(failed("create a hard link, which the lake requires, to", path))?;
    drop(temporary);
    sync(folder_of(path))
}

/// A file under its temporary name, removed on drop.
struct Temporary(PathBuf);

impl Temporary {
    /// Writes a temporary file in the folder of `path`. Creates the folder if it does not exist.
    fn write_beside(path: &Path, bytes: &[u8]) -> Result<Self, LakeError> {
        make_folder(folder_of(path))?;
        let (temporary, mut file) = Self::create_beside(path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(failed("write", &temporary.0))?;
        Ok(temporary)
    }

    /// Creates a file with a unique name. The process ID alone is not unique: in containers it is often 1.
    fn create_beside(path: &Path) -> Result<(Self, File), LakeError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let temporary = path.with_file_name(format!(".{name}.{}-{number}.tmp", process::id()));
            match File::create_new(&temporary) {
                Ok(file) => return Ok((Self(temporary), file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("write", &temporary)(error)),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename the file no longer exists. A file that cannot be removed is recognizable by its name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Creates a folder and its parents. Syncs the parents, so that the folders survive a power failure.
fn make_folder(folder: &Path) -> Result<(), LakeError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder_of(folder);
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make", folder)(error)),
        _ => sync(parent),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn sync(folder: &Path) -> Result<(), LakeError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    let path = path.to_owned();
    move |source| LakeError::Io { action, path, source }
}
