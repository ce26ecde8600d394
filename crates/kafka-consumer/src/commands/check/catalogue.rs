//! Catalogue of the checks: built-in ones and those of a folder.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::commands::check::definition::{Check, HeaderError};
use crate::commands::check::event_rules;

const OWN: [(&str, &str); 13] = [
    ("event_ids_unique.sql", include_str!("sql/event_ids_unique.sql")),
    ("freshness.sql", include_str!("sql/freshness.sql")),
    ("volume_like_yesterday.sql", include_str!("sql/volume_like_yesterday.sql")),
    ("event_types_known.sql", include_str!("sql/event_types_known.sql")),
    ("values_in_range.sql", include_str!("sql/values_in_range.sql")),
    ("one_account_per_user.sql", include_str!("sql/one_account_per_user.sql")),
    ("user_features_in_step.sql", include_str!("sql/user_features_in_step.sql")),
    ("account_features_in_step.sql", include_str!("sql/account_features_in_step.sql")),
    ("features_fresh.sql", include_str!("sql/features_fresh.sql")),
    ("dead_letter_share.sql", include_str!("sql/dead_letter_share.sql")),
    ("rows_counted.sql", include_str!("sql/rows_counted.sql")),
    ("dead_letters_counted.sql", include_str!("sql/dead_letters_counted.sql")),
    ("offsets_plausible.sql", include_str!("sql/offsets_plausible.sql")),
];

/// Errors from loading or selecting checks.
#[derive(Debug, Error)]
pub(crate) enum CatalogueError {
    #[error("cannot use check file {file}: {error}")]
    Header {
        /// Path of the file, or name of the built-in check's file.
        file: String,
        error: HeaderError,
    },
    #[error("cannot read {}: {error}; correct --checks", .path.display())]
    Unreadable {
        /// Folder or file.
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("no .sql files in {}; correct --checks", .0.display())]
    Empty(PathBuf),
    /// Two files of the folder have the same name in their headers.
    #[error("cannot use check file {file}: another file defines check {name}; rename one of them")]
    Twice {
        /// Path of the second file.
        file: String,
        name: String,
    },
    /// No check has the requested name. Holds that name and the known names.
    #[error("unknown check {0}; choose from {1}")]
    NoSuch(String, String),
}

/// Returns the built-in checks, then those of the folder. A check of the folder replaces a built-in check with the same
/// name.
pub(crate) fn checks(folder: Option<&Path>) -> Result<Vec<Check>, CatalogueError> {
    let own = OWN.iter().map(|(file, text)| parse(file, &event_rules::fill(text)));
    let mut all = own.collect::<Result<Vec<_>, _>>()?;
    let theirs = folder.map(of_folder).transpose()?.unwrap_or_default();
    for check in theirs {
        match all.iter_mut().find(|one| one.name == check.name) {
            Some(own) => *own = check,
            None => all.push(check),
        }
    }
    Ok(all)
}

/// Selects the checks with these names; all checks if no name is given.
pub(crate) fn only(checks: Vec<Check>, names: &[String]) -> Result<Vec<Check>, CatalogueError> {
    for name in names {
        if !checks.iter().any(|check| check.name == *name) {
            let known: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
            return Err(CatalogueError::NoSuch(name.clone(), known.join(", ")));
        }
    }
    Ok(checks.into_iter().filter(|check| names.is_empty() || names.contains(&check.name)).collect())
}

fn of_folder(folder: &Path) -> Result<Vec<Check>, CatalogueError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |error| CatalogueError::Unreadable { path, error }
    };
    let entries = fs::read_dir(folder).map_err(unreadable(folder))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(unreadable(folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    let mut checks: Vec<Check> = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).map_err(unreadable(path))?;
        let file = path.display().to_string();
        let check = parse(&file, &text)?;
        if checks.iter().any(|other| other.name == check.name) {
            return Err(CatalogueError::Twice { file, name: check.name });
        }
        checks.push(check);
    }
    if checks.is_empty() { Err(CatalogueError::Empty(folder.to_owned())) } else { Ok(checks) }
}

fn parse(file: &str, text: &str) -> Result<Check, CatalogueError> {
    Check::parse(text).map_err(|error| CatalogueError::Header { file: file.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_are_named_as_their_files() {
        for ((file, _), check) in OWN.iter().zip(checks(None).unwrap()) {
            assert_eq!(*file, format!("{}.sql", check.name));
            assert!(!check.unit.is_empty() && check.explanation.len() > 40, "{file}");
        }
    }

    #[test]
    fn a_folder_adds_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(checks(Some(path)), Err(CatalogueError::Empty(_))));
        let text = "-- name: mine\n-- severity: error\n-- threshold: 1\n-- explanation: x\nSELECT 1 AS value\n";
        fs::write(path.join("a.sql"), text).unwrap();
        fs::write(path.join("b.sql"), text.replace("mine", "freshness")).unwrap();
        fs::write(path.join("notes.txt"), "not a check").unwrap();
        let all = checks(Some(path)).unwrap();
        assert_eq!((all.len(), all[1].sql.as_str(), all[13].name.as_str()), (14, "SELECT 1 AS value", "mine"));
        assert_eq!(only(all.clone(), &["mine".to_owned()]).unwrap().len(), 1);
        let error = only(all, &["his".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("unknown check his") && error.contains("offsets_plausible, mine"), "{error}");

        fs::write(path.join("c.sql"), text).unwrap();
        let error = checks(Some(path)).unwrap_err().to_string();
        assert!(error.contains("c.sql") && error.contains("mine"), "{error}");
        fs::write(path.join("c.sql"), "SELECT 1").unwrap();
        let error = checks(Some(path)).unwrap_err().to_string();
        assert!(error.contains("c.sql") && error.contains("no `-- name: …`"), "{error}");
        assert!(matches!(checks(Some(&path.join("none"))), Err(CatalogueError::Unreadable { .. })));
    }
}
