//! Paths: the repository, the fetched programs, and folders that another account can read.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::{At, StackError};

/// File that identifies the repository's root.
const LANDMARK: &str = "deploy/local-stack/pom.xml";

/// Folder of the fetched programs: `.local-stack/dist`.
#[derive(Debug, Clone)]
pub(crate) struct Dist {
    pub(crate) folder: PathBuf,
}

impl Dist {
    /// Finds the programs that `scripts/setup` fetched.
    pub(crate) fn find() -> Result<Self, StackError> {
        let folder = stack_folder().join("dist");
        let folder = folder.canonicalize().unwrap_or(folder);
        let dist = Self { folder };
        let needed =
            ["COMPLETE", "kafka", "kafka-formatted/meta.properties", "postgres/bin/postgres", "seaweedfs/weed"];
        match needed.iter().map(|name| dist.folder.join(name)).find(|path| !path.exists()) {
            None => Ok(dist),
            Some(missing) => Err(StackError::NotFetched { missing }),
        }
    }

    pub(crate) fn weed(&self) -> PathBuf {
        self.folder.join("seaweedfs/weed")
    }

    /// Returns PostgreSQL's folder with `bin`, `lib` and `share`: [`other_postgres`] if there is one. Copies it if
    /// `account` cannot read the original.
    pub(crate) fn postgres_for(&self, account: Option<&Account>) -> Result<PathBuf, StackError> {
        if let Some(other) = other_postgres() {
            return Ok(other);
        }
        let original = self.folder.join("postgres");
        let Some(account) = account else { return Ok(original) };
        if account.reaches(&original) {
            return Ok(original);
        }
        let stamp = self.folder.join("COMPLETE");
        let version = fs::read_to_string(&stamp).at("read", &stamp)?;
        let version = version.get(..12).unwrap_or("unknown");
        let copy = outside_folder(&stack_folder())?.join(format!("postgres-{version}"));
        if !copy.exists() {
            // Copied under a unique name and then renamed, so that no process sees a partial copy.
            let own = copy.with_extension(std::process::id().to_string());
            copy_folder(&original, &own)?;
            if fs::rename(&own, &copy).is_err() {
                // Another process created the copy first.
                let _ = fs::remove_dir_all(&own);
            }
        }
        Ok(copy)
    }
}

/// Returns the folder of another PostgreSQL, given by `LOCAL_STACK_POSTGRES`, such as /usr/lib/postgresql/15.
pub(crate) fn other_postgres() -> Option<PathBuf> {
    env::var_os("LOCAL_STACK_POSTGRES").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Returns the repository's root: the nearest one above the current folder, else the one this crate was built in.
pub(crate) fn repository() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = env::current_dir().unwrap_or_default();
    let above = here.ancestors().find(|folder| folder.join(LANDMARK).exists());
    above.or_else(|| built.ancestors().nth(2)).unwrap_or(built).to_owned()
}

/// Returns `LOCAL_STACK_DIR` if it is set, else `.local-stack` in the repository.
#[must_use]
pub fn stack_folder() -> PathBuf {
    match env::var_os("LOCAL_STACK_DIR") {
        Some(folder) if !folder.is_empty() => std::path::absolute(&folder).unwrap_or(folder.into()),
        _ => repository().join(".local-stack"),
    }
}

/// Returns the folder below /var/tmp that replaces `inside` where other accounts cannot read that. Creates it if
/// missing.
pub(crate) fn outside_folder(inside: &Path) -> Result<PathBuf, StackError> {
    let mut hasher = DefaultHasher::new();
    inside.hash(&mut hasher);
    let folder = PathBuf::from(format!("/var/tmp/local-stack-{:016x}", hasher.finish()));
    fs::create_dir_all(&folder).at("create", &folder)?;
    let kind = fs::symlink_metadata(&folder).at("inspect", &folder)?;
    if !kind.is_dir() || !Account::is_ours(&kind) {
        return Err(StackError::NotOurs(folder));
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).at("set the permissions of", &folder)?;
    Ok(folder)
}

/// Copies files, folders and symbolic links with their permissions.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), StackError> {
    fs::create_dir_all(to).at("create", to)?;
    let rights = fs::metadata(from).at("inspect", from)?.permissions();
    fs::set_permissions(to, rights).at("set the permissions of", to)?;
    for entry in fs::read_dir(from).at("read", from)? {
        let entry = entry.at("read", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().at("inspect", &source)?;
        if kind.is_dir() {
            copy_folder(&source, &target)?;
        } else if kind.is_symlink() {
            let destination = fs::read_link(&source).at("read", &source)?;
            std::os::unix::fs::symlink(destination, &target).at("link", &target)?;
        } else {
            fs::copy(&source, &target).at("copy", &source)?;
        }
    }
    Ok(())
}
