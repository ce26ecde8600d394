//! Credentials of Kafka clients, which may be replaced in their files while a program runs.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use rdkafka::config::ClientConfig;

use super::properties;

/// Source of the credentials: the file of `--kafka-config`, and the properties of `-X`, which take precedence.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
    flags: Vec<String>,
}

impl Credentials {
    pub(super) fn new(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        Self { file, flags }
    }

    /// Returns the configuration with the present credentials. All other properties keep their values.
    ///
    /// A file that cannot be read now, such as one that is being replaced, changes nothing.
    #[must_use]
    pub fn refreshed(&self, config: &ClientConfig) -> ClientConfig {
        let mut config = config.clone();
        match properties::read(self.file.as_deref(), &self.flags) {
            Ok(all) => {
                for (name, value) in all.into_iter().filter(|(name, _)| is_credential(name)) {
                    config.set(name, value);
                }
            }
            Err(error) => tracing::warn!(%error, "kafka credentials not read again"),
        }
        config
    }

    /// Returns a hash of the credentials in a configuration and of the files that they name. It differs after a
    /// certificate was replaced under the same name.
    #[must_use]
    pub fn fingerprint(config: &ClientConfig) -> u64 {
        let mut hasher = DefaultHasher::new();
        for name in config.config_map().into_keys().filter(|name| is_credential(name)) {
            // The map has a placeholder instead of a password.
            let value = config.get(name);
            (name, value).hash(&mut hasher);
            if let (Some(file), true) = (value, name.ends_with(".location")) {
                fs::read(file).ok().hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Returns the user and the password for SASL in a configuration.
    #[must_use]
    pub fn user_and_password(config: &ClientConfig) -> Option<(&str, &str)> {
        config.get("sasl.username").zip(config.get("sasl.password"))
    }
}

fn is_credential(name: &str) -> bool {
    name.starts_with("sasl.") || name.starts_with("ssl.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_file_is_read_again_and_only_its_credentials_count() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("kafka.conf"), folder.path().join("key.pem"));
        let write = |password: &str| {
            let key = key.display();
            fs::write(&file, format!("sasl.password={password}\nlinger.ms=9\nssl.key.location={key}\n")).unwrap();
        };
        let flags = vec!["sasl.username=from the flag".to_owned()];
        let credentials = Credentials::new(Some(file.clone()), flags);
        let mut config = ClientConfig::new();
        config.set("linger.ms", "5").set("sasl.username", "former");
        write("one");
        let first = credentials.refreshed(&config);
        assert_eq!(Credentials::user_and_password(&first), Some(("from the flag", "one")));
        assert_eq!(first.get("linger.ms"), Some("5"));
        write("two");
        let second = credentials.refreshed(&first);
        assert_eq!(second.get("sasl.password"), Some("two"));
        let prints = [&first, &second].map(Credentials::fingerprint);
        assert_ne!(prints[0], prints[1]);
        fs::write(&key, "another key").unwrap();
        assert_ne!(Credentials::fingerprint(&second), prints[1], "replaced under the same name");
        fs::remove_file(&file).unwrap();
        assert_eq!(credentials.refreshed(&second).get("sasl.password"), Some("two"), "it is being replaced");
    }
}
