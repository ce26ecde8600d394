//! Properties that users pass through to librdkafka.

use std::fs;
use std::path::Path;

use crate::exit::Failure;

/// A property that users may not change, because a guarantee depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// librdkafka's name of the property.
    pub property: &'static str,
    /// The only permitted value; `None` if only the program sets the property.
    pub value: Option<&'static str>,
    /// Reason for the restriction, as a clause that follows a colon.
    pub because: &'static str,
}

/// Returns the properties of the file, followed by those of the command line.
pub(super) fn read(file: Option<&Path>, flags: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut all = Vec::new();
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read {}: {error}; check --kafka-config", path.display()))
        })?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with(['#', '!']) {
                let place = || format!("--kafka-config {}, line {}", path.display(), number + 1);
                all.push(pair(line, place)?);
            }
        }
    }
    for flag in flags {
        all.push(pair(flag, || "-X".to_owned())?);
    }
    Ok(all)
}

fn pair(text: &str, place: impl Fn() -> String) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        // The error omits the text: a value without a name may be a secret.
        _ => Err(Failure::usage(format!(
            "{}: not a property; write KEY=VALUE, such as security.protocol=SASL_SSL",
            place()
        ))),
    }
}

/// Refuses a property that would break a guarantee.
pub(super) fn permit(name: &str, value: &str, guards: &[Guard]) -> Result<(), Failure> {
    const ADDRESSES: Guard =
        Guard { property: "bootstrap.servers", value: None, because: "the addresses come from --bootstrap-servers" };
    const BROKER_LIST: Guard = Guard { property: "metadata.broker.list", ..ADDRESSES };
    const CREATION: Guard = Guard {
        property: "allow.auto.create.topics",
        value: Some("false"),
        because: "a mistyped topic would be created unnoticed",
    };
    let mut all = guards.iter().chain(&[ADDRESSES, BROKER_LIST, CREATION]);
    match all.find(|guard| guard.property == name && guard.value != Some(value)) {
        Some(guard) => {
            let allowed = guard.value.map(|value| format!(", or set it to {value}")).unwrap_or_default();
            Err(Failure::usage(format!("cannot set Kafka property {name}: {}; remove it{allowed}", guard.because)))
        }
        None => Ok(()),
    }
}

/// Returns true if the value of a property must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "token", "jaas", ".pem", "oauthbearer.config"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn pairs_and_guards() {
        let flags = ["linger.ms=5".to_owned(), "sasl.password=a=b".to_owned()];
        let read = read(None, &flags).unwrap();
        assert_eq!(read[1], ("sasl.password".to_owned(), "a=b".to_owned()));
        assert!(super::read(None, &["hunter2".to_owned()]).is_err_and(|error| !error.to_string().contains("hunter2")));
        let guards = [Guard { property: "isolation.level", value: Some("read_committed"), because: "of aborted ones" }];
        assert!(permit("isolation.level", "read_committed", &guards).is_ok());
        let refused = permit("isolation.level", "read_uncommitted", &guards).unwrap_err();
        assert_eq!((refused.code(), refused.to_string().contains("of aborted ones")), (2, true));
        assert!(permit("bootstrap.servers", "a:1", &[]).is_err());
        assert!(is_secret("sasl.password") && is_secret("ssl.key.pem") && !is_secret("linger.ms"));
    }
}
