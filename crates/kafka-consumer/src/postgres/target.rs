//! Which server, as whom, how.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;

/// The local stack's warehouse.
pub(super) const DEFAULT_URL: &str = "postgres://admin:admin@localhost:5433/warehouse";

/// A database and the way to it. Shown without the password.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: Tls,
}

/// How the connection is protected.
#[derive(Clone)]
pub(super) enum Tls {
    Off,
    VerifyFull(MakeRustlsConnect),
}

/// An address that cannot be used. Never contains it, since it may hold a password.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Not of libpq's form.
    #[error("--database-url is not of the form postgres://user:password@host:port/database?option=value ({0})")]
    Form(String),
    /// An `sslmode` that is not offered.
    #[error(
        "sslmode={0} is not offered: verify-full (the default for a host that is not local) checks whom the password \
         goes to, disable does without TLS"
    )]
    Mode(String),
    /// The certificates to trust could not be read.
    #[error("sslrootcert: {0}")]
    Roots(String),
}

impl Target {
    /// From `--database-url`, else from libpq's `PG*` variables where `PGHOST`, `PGPORT`, `PGUSER` or `PGDATABASE` is
    /// set, else the local stack's warehouse. What the URL leaves open comes from the variables too.
    pub fn resolve(url: Option<&str>) -> Result<Self, TargetError> {
        Self::from(url, |name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(url: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, TargetError> {
        let named = ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"].iter().any(|name| variable(name).is_some());
        let (text, options) = take_tls_options(url.unwrap_or(if named { "postgres://" } else { DEFAULT_URL }));
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            TargetError::Form(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        complete(&mut config, &variable)?;
        let mode = options.mode.or_else(|| variable("PGSSLMODE"));
        let roots = options.roots.or_else(|| variable("PGSSLROOTCERT")).map(PathBuf::from);
        let tls = match mode.as_deref() {
            None if config.get_hosts().iter().all(is_local) => Tls::Off,
            None | Some("verify-full") => {
                Tls::VerifyFull(tls::connector(roots.as_deref()).map_err(TargetError::Roots)?)
            }
            Some("disable") => Tls::Off,
            Some(other) => return Err(TargetError::Mode(other.to_owned())),
        };
        config.ssl_mode(if matches!(tls, Tls::Off) { SslMode::Disable } else { SslMode::Require });
        Ok(Self { config, tls })
    }

    /// The same database, the session under a name of its own (`application_name`).
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let mut named = self.clone();
        named.config.application_name(name);
        named
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            let host = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            write!(f, "{}{host}:{port}", if place == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.config.get_dbname().or(self.config.get_user()).unwrap_or_default())
    }
}

/// Fills in what the URL left open, and bounds how long a dead server goes unnoticed.
fn complete(config: &mut Config, variable: &impl Fn(&str) -> Option<String>) -> Result<(), TargetError> {
    if config.get_hosts().is_empty() {
        config.host(variable("PGHOST").unwrap_or_else(|| "localhost".to_owned()));
    }
    if config.get_ports().is_empty()
        && let Some(port) = variable("PGPORT")
    {
        config.port(port.parse().map_err(|_| TargetError::Form("PGPORT is not a port".to_owned()))?);
    }
    if config.get_user().is_none()
        && let Some(user) = variable("PGUSER").or_else(|| variable("USER"))
    {
        config.user(user);
    }
    if config.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_dbname().is_none()
        && let Some(database) = variable("PGDATABASE")
    {
        config.dbname(database);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    config.keepalives_idle(Duration::from_secs(10));
    config.tcp_user_timeout(Duration::from_secs(20));
    Ok(())
}

#[derive(Default)]
struct TlsOptions {
    mode: Option<String>,
    roots: Option<String>,
}

/// Takes out the options that tokio-postgres does not know, from either of libpq's forms.
fn take_tls_options(text: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let mut take = |option: &str| match option.split_once('=') {
        Some(("sslmode", value)) => {
            options.mode = Some(value.to_owned());
            true
        }
        Some(("sslrootcert", value)) => {
            options.roots = Some(value.replace("%2F", "/"));
            true
        }
        _ => false,
    };
    let rest = match text.split_once('?') {
        Some((address, query)) => {
            let kept: Vec<&str> = query.split('&').filter(|option| !take(option)).collect();
            if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
        }
        None if text.contains("://") => text.to_owned(),
        None => text.split_whitespace().filter(|option| !take(option)).collect::<Vec<_>>().join(" "),
    };
    (rest, options)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, TargetError> {
        Target::from(url, |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn urls_and_variables() {
        let shown = |url, variables: &[(&str, &str)]| target(url, variables).unwrap().to_string();
        assert_eq!(shown(None, &[]), "localhost:5433/warehouse");
        assert_eq!(shown(None, &[("PGHOST", "/run/postgresql"), ("PGDATABASE", "d")]), "/run/postgresql:5432/d");
        let url = "postgres://me:secret@localhost:1,127.0.0.1:2/db?target_session_attrs=read-write&sslmode=disable";
        assert_eq!(shown(Some(url), &[("PGHOST", "elsewhere")]), "localhost:1,127.0.0.1:2/db");
        assert_eq!(shown(Some("host=::1 user=me dbname=db sslmode=disable"), &[]), "::1:5432/db");
    }

    #[test]
    fn a_host_that_is_not_local_gets_tls_that_checks_it() {
        let url = "postgres://me:secret@warehouse.example/db";
        assert!(matches!(target(Some(url), &[]).unwrap().tls, Tls::VerifyFull(_)));
        assert!(matches!(target(Some(url), &[("PGSSLMODE", "disable")]).unwrap().tls, Tls::Off));
        assert!(matches!(target(Some("postgres://localhost/db"), &[]).unwrap().tls, Tls::Off));
        let refused = target(Some("postgres://me:secret@localhost/db?sslmode=prefer"), &[]).err().unwrap();
        assert!(refused.to_string().starts_with("sslmode=prefer is not offered"));
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        for url in ["postgres://me:hunter2@localhost:port/db", "mysql://me:hunter2@localhost/db", "hunter2"] {
            let refused = target(Some(url), &[]).err().unwrap().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
