//! The settings of a connection, merged from all sources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::ConninfoError;
use crate::keyword::{self, Handling, KEYWORDS};
use crate::parse::{Pairs, parse};
use crate::service::ServiceFiles;

/// Reads environment variables; an empty one counts as unset.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Values of keywords, each with its source.
pub(crate) struct Settings(BTreeMap<&'static str, Setting>);

struct Setting {
    value: String,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    ConnectionString,
    Service,
    Variable(&'static str),
}

impl Settings {
    /// Merges the settings of the connection string, the service and the environment, in this order of precedence.
    pub(crate) fn gather(text: &str, environment: Environment<'_>) -> Result<Self, ConninfoError> {
        let mut settings = Self(BTreeMap::new());
        settings.add(parse(text)?, Source::ConnectionString, true)?;
        // A service in the connection string overrides the variable.
        settings.add_variables(environment, |name| ["service", "servicefile"].contains(&name));
        if let Some(service) = settings.get("service") {
            let files = ServiceFiles {
                named: settings.get("servicefile").map(PathBuf::from),
                home: environment("HOME").map(PathBuf::from),
                system: environment("PGSYSCONFDIR").map(PathBuf::from),
            };
            let pairs = files.load(service)?;
            settings.add(pairs, Source::Service, false)?;
        }
        settings.add_variables(environment, |_| true);
        if environment("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
            let required = Setting { value: "require".to_owned(), source: Source::Variable("PGREQUIRESSL") };
            settings.0.entry("sslmode").or_insert(required);
        }
        settings.check()?;
        Ok(settings)
    }

    fn add(&mut self, pairs: Pairs, source: Source, replace: bool) -> Result<(), ConninfoError> {
        for (name, value) in pairs {
            let Some(keyword) = keyword::find(&name) else { return Err(unknown(&name)) };
            if replace || !self.0.contains_key(keyword.name) {
                self.0.insert(keyword.name, Setting { value, source });
            }
        }
        Ok(())
    }

    fn add_variables(&mut self, environment: Environment<'_>, wanted: impl Fn(&str) -> bool) {
        for keyword in KEYWORDS.iter().filter(|keyword| wanted(keyword.name)) {
            let Some(variable) = keyword.variable.filter(|_| !self.0.contains_key(keyword.name)) else { continue };
            if let Some(value) = environment(variable) {
                self.0.insert(keyword.name, Setting { value, source: Source::Variable(variable) });
            }
        }
    }

    /// Refuses options that this crate does not support.
    fn check(&self) -> Result<(), ConninfoError> {
        for keyword in KEYWORDS {
            let Some(value) = self.get(keyword.name) else { continue };
            match keyword.handling {
                Handling::Supported => {}
                Handling::Accepted(values) if values.is_empty() || values.contains(&value) => {}
                Handling::Accepted(values) => {
                    return Err(self.invalid(keyword.name, &format!("{} ({})", values.join(", "), keyword.note)));
                }
                Handling::Refused => return Err(self.unsupported(keyword.name, keyword.note)),
            }
        }
        Ok(())
    }

    /// Returns a value. An empty value selects the default, as in libpq.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the elements of a comma-separated value.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).map(|value| value.split(',').map(str::trim).collect()).unwrap_or_default()
    }

    /// Parses an integer.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i32>, ConninfoError> {
        let parse = |value: &str| value.trim().parse().map_err(|_| self.invalid(name, "an integer"));
        self.get(name).map(parse).transpose()
    }

    /// Parses 0 or 1.
    pub(crate) fn switch(&self, name: &str, default: bool) -> Result<bool, ConninfoError> {
        match self.get(name) {
            None => Ok(default),
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(self.invalid(name, "0 or 1")),
        }
    }

    /// Parses one of several names.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, ConninfoError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if let Some((_, chosen)) = choices.iter().find(|(choice, _)| *choice == value) {
            return Ok(Some(*chosen));
        }
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        Err(self.invalid(name, &format!("one of {}", names.join(", "))))
    }

    /// Returns the error for an invalid value.
    pub(crate) fn invalid(&self, name: &str, expected: &str) -> ConninfoError {
        let value = self.get(name).unwrap_or_default().to_owned();
        ConninfoError::Value { name: self.shown(name), value, expected: expected.to_owned() }
    }

    /// Returns the error for an unsupported option.
    pub(crate) fn unsupported(&self, name: &str, reason: &str) -> ConninfoError {
        ConninfoError::Unsupported { name: self.shown(name), reason: reason.to_owned() }
    }

    /// Returns the name under which the user set an option.
    fn shown(&self, name: &str) -> String {
        match self.0.get(name).map(|setting| setting.source) {
            Some(Source::Variable(variable)) => variable.to_owned(),
            Some(Source::Service) => format!("{name} (service {})", self.get("service").unwrap_or_default()),
            Some(Source::ConnectionString) | None => name.to_owned(),
        }
    }
}

/// Returns the error for an unknown keyword. Omits text that does not look like a keyword and may be a secret.
fn unknown(name: &str) -> ConninfoError {
    let word = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    ConninfoError::UnknownKeyword(if word { name.to_owned() } else { "(not a lower-case word)".to_owned() })
}
