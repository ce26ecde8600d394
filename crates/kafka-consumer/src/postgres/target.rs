//! Which server, as whom, how.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postgres_openssl::MakeTlsConnector;
use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

use super::exposure::Exposure;
use super::host::{Place, places};
use super::options::Options;
use super::passfile::PassFile;
use super::tls::{self, Mode, Roots};

/// The local stack's warehouse.
pub(super) const DEFAULT_URL: &str = "postgres://admin:admin@localhost:5433/warehouse";

/// A database and the way to it. Shown without the password.
#[derive(Clone)]
pub struct Target {
    config: Config,
    protection: Protection,
    passwords: PassFile,
}

/// How the connection is protected.
#[derive(Clone)]
pub(super) struct Protection {
    pub(super) mode: Mode,
    /// None where TLS is never used.
    pub(super) connector: Option<MakeTlsConnector>,
    /// Whether the server's certificate is checked.
    pub(super) verified: bool,
    /// What was warned of already.
    pub(super) exposure: Arc<Exposure>,
}

/// An address that cannot be used. Never contains it, since it may hold a password.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Not of libpq's form.
    #[error("--database-url is not of the form postgres://user:password@host:port/database?option=value ({0})")]
    Form(String),
    /// An `sslmode` that there is not.
    #[error("sslmode={0} is none of disable, allow, prefer, require, verify-ca, verify-full")]
    Mode(String),
    /// An option's value that cannot be had here.
    #[error("{0}")]
    Option(String),
    /// A certificate or key that cannot be used. Begins with the option that names it.
    #[error("{0}")]
    Tls(String),
}

impl Target {
    /// From `--database-url`, else from libpq's `PG*` variables where `PGHOST`, `PGPORT`, `PGUSER` or `PGDATABASE` is
    /// set, else the local stack's warehouse. What the URL leaves open comes from the variables too, a password also
    /// from libpq's password file.
    pub fn resolve(url: Option<&str>) -> Result<Self, TargetError> {
        Self::from(url, |name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Whether all its hosts are this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        places(&self.config).iter().all(Place::is_local)
    }

    fn from(url: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, TargetError> {
        let named =
            ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE"].iter().any(|name| variable(name).is_some());
        let text = url.unwrap_or(if named { "postgres://" } else { DEFAULT_URL });
        let (text, options) = Options::take(text, &variable)?;
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            TargetError::Form(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        complete(&mut config, &variable)?;
        demand(&mut config, &options)?;
        let home = variable("HOME").map(PathBuf::from);
        let usual = home.as_ref().map(|home| home.join(".pgpass"));
        let passwords = options.get("passfile").map(PathBuf::from).or(usual).map(|path| PassFile::read(&path));
        let protection = protection(&config, &options, home.as_deref())?;
        Ok(Self { config, protection, passwords: passwords.unwrap_or_default() })
    }

    /// The same database, the session under a name of its own (`application_name`).
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let mut named = self.clone();
        named.config.application_name(name);
        named
    }

    /// The hosts, each with a configuration of its own, in the order in which they are to be tried.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places = places(&self.config);
        for place in &mut places {
            place.take_password(&self.passwords);
        }
        places
    }

    pub(super) fn protection(&self) -> &Protection {
        &self.protection
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.places().iter().enumerate() {
            write!(f, "{}{place}", if index == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.config.get_dbname().or(self.config.get_user()).unwrap_or_default())
    }
}

/// Fills in what the URL left open, and bounds how long a dead server goes unnoticed.
fn complete(config: &mut Config, variable: &impl Fn(&str) -> Option<String>) -> Result<(), TargetError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        for host in variable("PGHOST").unwrap_or_else(|| "localhost".to_owned()).split(',') {
            config.host(host);
        }
    }
    if config.get_ports().is_empty()
        && let Some(ports) = variable("PGPORT")
    {
        for port in ports.split(',') {
            config.port(port.parse().map_err(|_| TargetError::Form("PGPORT is not a port".to_owned()))?);
        }
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
    if config.get_options().is_none()
        && let Some(options) = variable("PGOPTIONS")
    {
        config.options(options);
    }
    if config.get_connect_timeout().is_none() {
        // With several hosts, a dead one must leave time for the next.
        let seconds = if config.get_hosts().len() > 1 { 2 } else { 5 };
        config.connect_timeout(Duration::from_secs(seconds));
    }
    config.keepalives_idle(Duration::from_secs(10));
    config.tcp_user_timeout(Duration::from_secs(20));
    Ok(())
}

/// What is demanded of the session.
fn demand(config: &mut Config, options: &Options) -> Result<(), TargetError> {
    let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
    config.target_session_attrs(match options.get("target_session_attrs") {
        // Of several servers the one that can be written to is meant.
        None if several => TargetSessionAttrs::ReadWrite,
        None | Some("any") => TargetSessionAttrs::Any,
        Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
        Some("read-only") => TargetSessionAttrs::ReadOnly,
        Some(other) => {
            let text = format!("target_session_attrs={other} is not offered: any, read-write, primary or read-only");
            return Err(TargetError::Option(text));
        }
    });
    config.channel_binding(match options.get("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        Some(other) => {
            let text = format!("channel_binding={other} is none of disable, prefer, require");
            return Err(TargetError::Option(text));
        }
    });
    Ok(())
}

fn protection(config: &Config, options: &Options, home: Option<&Path>) -> Result<Protection, TargetError> {
    let roots = match options.get("sslrootcert") {
        Some("system") => Some(Roots::System),
        Some(path) => Some(Roots::File(path.into())),
        None => {
            let usual = home.map(|home| home.join(".postgresql/root.crt"));
            usual.filter(|path| path.exists()).map(Roots::File)
        }
    };
    let system = matches!(roots, Some(Roots::System));
    let mode = match options.get("sslmode") {
        Some(name) => name.parse().map_err(|()| TargetError::Mode(name.to_owned()))?,
        None if !system && places(config).iter().all(Place::is_local) => Mode::Disable,
        None => Mode::VerifyFull,
    };
    if system && mode != Mode::VerifyFull {
        let text = format!(
            "sslrootcert=system asks for sslmode=verify-full, not {mode}: anyone can get a certificate from one of the system's authorities"
        );
        return Err(TargetError::Option(text));
    }
    // As in libpq: whoever gave a root certificate to sslmode=require gets it checked.
    let checked = if mode == Mode::Require && roots.is_some() { Mode::VerifyCa } else { mode };
    let roots = roots.unwrap_or(Roots::System);
    let connector = match mode {
        Mode::Disable => None,
        _ => Some(tls::connector(checked, &roots, options, home).map_err(TargetError::Tls)?),
    };
    Ok(Protection { mode, connector, verified: checked >= Mode::VerifyCa, exposure: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, TargetError> {
        Target::from(url, |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn mode(url: &str, variables: &[(&str, &str)]) -> Mode {
        target(Some(url), variables).unwrap().protection.mode
    }

    #[test]
    fn urls_and_variables() {
        let shown = |url, variables: &[(&str, &str)]| target(url, variables).unwrap().to_string();
        assert_eq!(shown(None, &[]), "localhost:5433/warehouse");
        assert_eq!(shown(None, &[("PGHOST", "/run/postgresql"), ("PGDATABASE", "d")]), "/run/postgresql:5432/d");
        assert_eq!(shown(None, &[("PGHOST", "a,b"), ("PGPORT", "1,2"), ("PGUSER", "u")]), "a:1,b:2/u");
        let url = "postgres://me:secret@localhost:1,127.0.0.1:2/db?target_session_attrs=read-write&sslmode=disable";
        assert_eq!(shown(Some(url), &[("PGHOST", "elsewhere")]), "localhost:1,127.0.0.1:2/db");
        assert_eq!(shown(Some("host=::1 user=me dbname=db sslmode=disable"), &[]), "::1:5432/db");
        assert_eq!(shown(Some("hostaddr=10.0.0.1 user=me dbname=db"), &[]), "10.0.0.1:5432/db");
    }

    #[test]
    fn a_host_that_is_not_local_gets_tls_that_checks_it() {
        let url = "postgres://me:secret@warehouse.example/db";
        assert_eq!(mode(url, &[]), Mode::VerifyFull);
        assert_eq!(mode(url, &[("PGSSLMODE", "disable")]), Mode::Disable);
        assert_eq!(mode("postgres://localhost/db", &[]), Mode::Disable);
        assert_eq!(mode("postgres://localhost/db", &[("PGSSLROOTCERT", "system")]), Mode::VerifyFull);
        assert_eq!(mode("postgres://localhost,warehouse.example/db", &[]), Mode::VerifyFull);
        assert_eq!(mode("host=localhost hostaddr=10.0.0.1", &[]), Mode::VerifyFull);
        assert_eq!(mode("postgres://localhost/db?sslmode=prefer", &[]), Mode::Prefer);
    }

    #[test]
    fn of_several_servers_the_one_that_can_be_written_to_is_meant() {
        let attributes = |url| target(Some(url), &[]).unwrap().config.get_target_session_attrs();
        assert_eq!(attributes("postgres://localhost/db"), TargetSessionAttrs::Any);
        assert_eq!(attributes("postgres://localhost:1,localhost:2/db"), TargetSessionAttrs::ReadWrite);
        assert_eq!(attributes("postgres://localhost/db?target_session_attrs=primary"), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (options, named) in [
            ("sslmode=nonsense", "sslmode=nonsense"),
            ("sslmode=require&sslrootcert=system", "sslrootcert=system"),
            ("sslmode=verify-ca&sslrootcert=/no/such", "sslrootcert: /no/such"),
            ("sslmode=require&sslcert=/no/such", "sslcert: /no/such"),
            ("target_session_attrs=standby", "target_session_attrs=standby"),
            ("channel_binding=perhaps", "channel_binding=perhaps"),
            ("sslcrl=/some/file", "sslcrl"),
        ] {
            let url = format!("postgres://me:hunter2@warehouse.example/db?{options}");
            let refused = target(Some(&url), &[]).err().unwrap().to_string();
            assert!(refused.contains(named) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        for url in ["postgres://me:hunter2@localhost:port/db", "mysql://me:hunter2@localhost/db", "hunter2"] {
            let refused = target(Some(url), &[]).err().unwrap().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
