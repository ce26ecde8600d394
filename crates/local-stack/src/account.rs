//! The account that runs PostgreSQL. PostgreSQL refuses to run as root; any other user runs it under their own account.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{At, StackError};

/// An account from /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns the account to switch to, or `None` if the current user is not root.
    pub(crate) fn for_postgres() -> Result<Option<Self>, StackError> {
        if !is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").at("read", Path::new("/etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::in_passwd(&passwd, name))
            .map(Some)
            .ok_or(StackError::NoAccount)
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name: name.to_owned(), uid, gid })
        })
    }

    /// Returns true if the permissions of `path` and its parent folders let this account enter them.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        path.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|found| self.may_enter(&found)))
    }

    fn may_enter(&self, folder: &Metadata) -> bool {
        let bit = match () {
            () if folder.uid() == self.uid => 0o100,
            () if folder.gid() == self.gid => 0o010,
            () => 0o001,
        };
        folder.permissions().mode() & bit != 0
    }

    /// Changes the owner of a file or folder to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), StackError> {
        chown(path, Some(self.uid), Some(self.gid)).at("change the owner of", path)
    }

    /// Sets the user and group of a command to this account.
    pub(crate) fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Returns true if the current user owns the file.
    pub(crate) fn is_ours(file: &Metadata) -> bool {
        own_uid() == Some(file.uid())
    }
}

fn is_root() -> bool {
    own_uid() == Some(0)
}

fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/nonexistent:/bin/false\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let nobody = Account::in_passwd(PASSWD, "nobody").unwrap();
        assert_eq!(nobody, Account { name: "nobody".to_owned(), uid: 65534, gid: 65533 });
        assert_eq!(Account::in_passwd(PASSWD, "no"), None);
    }

    #[test]
    fn a_closed_folder_is_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let stranger = Account { name: "stranger".to_owned(), uid: 4_000_000, gid: 4_000_000 };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.reaches(&inner));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.reaches(&inner));
    }
}
