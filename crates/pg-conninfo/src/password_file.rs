//! libpq's password file (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Lines of a password file: host, port, database, user, password.
#[derive(Clone, Default)]
pub(crate) struct PasswordFile(Vec<[String; 5]>);

impl PasswordFile {
    /// Reads a file. A missing file is empty.
    ///
    /// Warns about a file that others can access or that cannot be read, and ignores it.
    pub(crate) fn read(path: &Path) -> Self {
        let read = fs::metadata(path).and_then(|found| Ok((found.permissions().mode(), fs::read_to_string(path)?)));
        match read {
            Ok((mode, _)) if mode & 0o077 != 0 => {
                tracing::warn!(file = %path.display(), "password file ignored, accessible to other users; run chmod 600 on it");
                Self::default()
            }
            Ok((_, text)) => Self::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "password file unreadable");
                Self::default()
            }
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(|line| fields(line).try_into().ok()).collect())
    }

    /// Returns the password of the first line that matches host, port, database and user.
    pub(crate) fn password(&self, wanted: [&str; 4]) -> Option<&str> {
        let fits = |line: &&[String; 5]| line.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        self.0.iter().find(fits).map(|line| line[4].as_str())
    }
}

/// Splits a line at colons. A backslash makes the next character literal.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let Some(last) = fields.last_mut() else { break };
        match letter {
            ':' => fields.push(String::new()),
            '\\' => last.extend(letters.next()),
            other => last.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits() {
        let text = "# comment\nbroken\nwarehouse:5432:db:me:it\\:s me\n*:*:*:me:other\n";
        let file = PasswordFile::parse(text);
        assert_eq!(file.password(["warehouse", "5432", "db", "me"]), Some("it:s me"));
        assert_eq!(file.password(["warehouse", "5433", "db", "me"]), Some("other"));
        assert_eq!(file.password(["warehouse", "5432", "db", "you"]), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        fs::write(&path, "*:*:*:*:secret").unwrap();
        let read = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            PasswordFile::read(&path).password(["a", "b", "c", "d"]).map(str::to_owned)
        };
        assert_eq!((read(0o644), read(0o600)), (None, Some("secret".to_owned())));
    }
}
