//! Fuzz targets: connection strings and the files that they refer to.

use super::{Conninfo, PasswordFile};
use crate::parse::parse;
use crate::service;

/// Settings that name a file. The target reads none.
const FILES: [&str; 8] =
    ["service", "servicefile", "passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"];

/// A connection string is resolved or refused, and no message has its password.
#[test]
fn conninfo() {
    fuzz::check("conninfo", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        let pairs = match parse(text) {
            Ok(pairs) if pairs.iter().any(|(name, _)| FILES.contains(&name.as_str())) => return,
            pairs => pairs,
        };
        let shown = Conninfo::from(Some(text), "", &|_| None)
            .map_or_else(|error| error.to_string(), |conninfo| conninfo.named("fuzz").to_string());
        let passwords = pairs.iter().flatten().filter(|(name, _)| name == "password");
        for (_, password) in passwords.filter(|(_, password)| password.len() > 2) {
            // The same text may also be that of another setting.
            let once = text.matches(password.as_str()).count() < 2;
            assert!(!once || !shown.contains(password.as_str()), "{shown}");
        }
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
