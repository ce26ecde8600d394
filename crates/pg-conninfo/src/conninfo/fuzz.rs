//! Fuzz targets: connection strings and the files that they refer to.

use super::{Conninfo, PasswordFile};
use crate::parse::parse;
use crate::service;

/// Settings that name a file. The target reads none.
const FILES: [&str; 8] =
    ["service", "servicefile", "passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"];

/// The password in the corpus.
const SECRET: &str = "hunter2";

/// A connection string is resolved or refused, and no message has its password.
#[test]
fn conninfo() {
    fuzz::check("conninfo", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        let pairs = parse(text);
        if pairs.iter().flatten().any(|(name, _)| FILES.contains(&name.as_str())) {
            return;
        }
        // Without TLS unless the text has a mode, because loading the system's certificates takes 10 ms.
        let environment = |name: &str| (name == "PGSSLMODE").then(|| "disable".to_owned());
        let shown = Conninfo::from(Some(text), "", &environment)
            .map_or_else(|error| error.to_string(), |conninfo| conninfo.named("fuzz").to_string());
        let is_secret = match &pairs {
            Ok(pairs) => {
                let has = |(name, value): &(String, String)| name.contains(SECRET) || value.contains(SECRET);
                let (passwords, others): (Vec<_>, Vec<_>) = pairs.iter().partition(|(name, _)| name == "password");
                passwords.into_iter().any(has) && !others.into_iter().any(has)
            }
            // The text may have its password anywhere.
            Err(_) => true,
        };
        assert!(!is_secret || !shown.contains(SECRET), "{shown}");
    });
}

/// A password file and a service file.
#[test]
fn files() {
    fuzz::check("files", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        let line: Vec<&str> = text.lines().next().unwrap_or_default().split(':').collect();
        if let [host, port, database, user, password] = line[..]
            && !text.starts_with('#')
            && !text.contains('\\')
        {
            assert_eq!(PasswordFile::parse(text).password([host, port, database, user]), Some(password));
        }
        let _ = PasswordFile::parse(text).password(["localhost", "5432", "warehouse", "me"]);
        if let Ok(Some(pairs)) = service::parse(text, "warehouse") {
            assert!(pairs.iter().all(|(name, _)| crate::keyword::find(name).is_some()), "{pairs:?}");
        }
    });
}
