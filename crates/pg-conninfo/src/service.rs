//! libpq's connection service file (<https://www.postgresql.org/docs/18/libpq-pgservice.html>).

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ConninfoError;
use crate::keyword;
use crate::parse::Pairs;

/// Folders of the system-wide service file if `PGSYSCONFDIR` is not set: Debian's, Red Hat's and PostgreSQL's own.
const SYSTEM_FOLDERS: [&str; 3] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/// Files that may define a service.
pub(crate) struct ServiceFiles {
    /// File named by a setting; it must exist.
    pub(crate) named: Option<PathBuf>,
    /// Home folder of the user, for `.pg_service.conf`.
    pub(crate) home: Option<PathBuf>,
    /// Folder of the system-wide file.
    pub(crate) system: Option<PathBuf>,
}

impl ServiceFiles {
    /// Returns the settings of a service from the named or the user's file, or else from the system-wide file.
    pub(crate) fn load(&self, service: &str) -> Result<Pairs, ConninfoError> {
        let failed = |reason: String| ConninfoError::Service { service: service.to_owned(), reason };
        let users = self.home.as_ref().map(|home| home.join(".pg_service.conf")).filter(|path| path.exists());
        let first = self.named.clone().or(users);
        let system = match &self.system {
            Some(folder) => vec![folder.clone()],
            None => SYSTEM_FOLDERS.iter().map(PathBuf::from).collect(),
        };
        let system = system.iter().map(|folder| folder.join("pg_service.conf")).find(|path| path.exists());
        for path in [&first, &system].into_iter().flatten() {
            let in_file = |reason: String| failed(format!("{}: {reason}", path.display()));
            let text = fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
            if let Some(pairs) = parse(&text, service).map_err(in_file)? {
                return Ok(pairs);
            }
        }
        let searched: Vec<_> = [&first, &system].into_iter().flatten().map(|path| shown(path)).collect();
        let searched = if searched.is_empty() { "no service file found".to_owned() } else { searched.join(", ") };
        Err(failed(format!("not defined ({searched}); define it, or set PGSERVICEFILE")))
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the settings of a service, or `None` if the file does not define it. The first value of a keyword wins.
pub(crate) fn parse(text: &str, service: &str) -> Result<Option<Pairs>, String> {
    let mut pairs: Option<Pairs> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if pairs.is_some() {
                break;
            }
            pairs = (name.strip_suffix(']') == Some(service)).then(Pairs::new);
            continue;
        }
        let Some(pairs) = &mut pairs else { continue };
        if line.starts_with("ldap") {
            return Err(format!("line {number}: LDAP is not supported"));
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {number}: expected keyword=value"))?;
        if name == "service" || name == "servicefile" {
            return Err(format!("line {number}: a service cannot refer to another one"));
        }
        if keyword::find(name).is_none() {
            return Err(format!("line {number}: unknown keyword"));
        }
        if !pairs.iter().any(|(known, _)| known == name) {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\n[other]\nhost=elsewhere\n\n[prod]\n  host=db1,db2\r\nport=1\nport=2\noptions=-c a=b\n[last]\nnonsense\n";

    #[test]
    fn a_service_is_its_section() {
        let pairs = parse(TEXT, "prod").unwrap().unwrap();
        let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["host=db1,db2", "port=1", "options=-c a=b"]);
        assert_eq!(parse(TEXT, "absent"), Ok(None));
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named() {
        for (text, named) in [
            (TEXT.replace("nonsense", "x"), ""),
            ("[p]\nnonsense".to_owned(), "line 2"),
            ("[p]\nservice=q".to_owned(), "another one"),
            ("[p]\nhots=q".to_owned(), "unknown keyword"),
            ("[p]\nldap://h/dc=x".to_owned(), "LDAP"),
        ] {
            match parse(&text, "p") {
                Ok(found) => assert!(found.is_none() && named.is_empty()),
                Err(said) => assert!(!named.is_empty() && said.contains(named), "{said}"),
            }
        }
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        };
        at("home/.pg_service.conf", "[a]\nhost=users\n");
        at("system/pg_service.conf", "[a]\nhost=systems\n[b]\nhost=systems\n");
        let files = |named: Option<&str>| ServiceFiles {
            named: named.map(|name| folder.path().join(name)),
            home: Some(folder.path().join("home")),
            system: Some(folder.path().join("system")),
        };
        let host = |named, service| files(named).load(service).map(|pairs| pairs[0].1.clone());
        assert_eq!(host(None, "a").unwrap(), "users");
        assert_eq!(host(None, "b").unwrap(), "systems");
        assert!(host(None, "c").unwrap_err().to_string().contains("pg_service.conf"));
        assert!(host(Some("absent"), "b").unwrap_err().to_string().contains("absent"));
    }
}
