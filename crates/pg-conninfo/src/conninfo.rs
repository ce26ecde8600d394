//! Settings for connecting to a database.

use std::collections::hash_map::RandomState;
use std::env;
use std::fmt;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslNegotiation};

use crate::error::ConninfoError;
use crate::host::{HostConfig, hosts};
use crate::password_file::PasswordFile;
use crate::session_attributes::SessionAttributes;
use crate::settings::{Environment, Settings};
use crate::tls::{Protection, SslMode};

/// Variables that name a server, a database or a user. If none is set, the default applies without a connection string.
const NAMING: [&str; 6] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"];

/// System default of `keepalives_idle`, which 0 requests.
const SYSTEM_KEEPALIVES_IDLE: Duration = Duration::from_hours(2);

/// Settings for connecting to a database. `Display` omits the password.
#[derive(Clone)]
pub struct Conninfo {
    hosts: Vec<HostConfig>,
    shuffled: bool,
    database: String,
    /// Application name set by the user.
    application: Option<String>,
    timeout: ConnectTimeout,
    attributes: SessionAttributes,
    protection: Protection,
    passwords: PasswordFile,
    /// Application name set by the program.
    name: Option<String>,
    source: Option<Arc<Source>>,
}

/// Arguments of [`Conninfo::resolve`], from which the settings are read again.
struct Source {
    text: Option<String>,
    default: String,
}

/// Timeout for connecting to one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectTimeout {
    /// Set by the user; `None` waits indefinitely.
    Given(Option<Duration>),
    /// Default. Limits the TCP connection, and the whole attempt to twice this time if another host follows.
    Default(Duration),
}

impl Conninfo {
    /// Resolves `text`, or else the environment if it names a server, a database or a user, or else `default`.
    ///
    /// Settings missing from the connection string come from its service, then from the environment. A missing password
    /// also comes from the password file.
    pub fn resolve(text: Option<&str>, default: &str) -> Result<Self, ConninfoError> {
        let resolved = Self::from(text, default, &|name| env::var(name).ok().filter(|value| !value.is_empty()))?;
        let source = Source { text: text.map(str::to_owned), default: default.to_owned() };
        Ok(Self { source: Some(Arc::new(source)), ..resolved })
    }

    /// Returns the settings with the present content of their files: passwords, services, certificates and keys.
    ///
    /// Files that cannot be used now, such as a certificate whose key is not replaced yet, change nothing.
    pub(crate) fn reloaded(&self) -> Self {
        let Some(source) = &self.source else { return self.clone() };
        match Self::resolve(source.text.as_deref(), &source.default) {
            Ok(fresh) => {
                let mut fresh = match &self.name {
                    Some(name) => fresh.named(name),
                    None => fresh,
                };
                fresh.protection.exposure = Arc::clone(&self.protection.exposure);
                fresh
            }
            Err(error) => {
                tracing::warn!(%error, "connection settings not read again");
                self.clone()
            }
        }
    }

    fn from(text: Option<&str>, default: &str, environment: Environment<'_>) -> Result<Self, ConninfoError> {
        let named = NAMING.iter().any(|name| environment(name).is_some());
        let text = text.unwrap_or(if named { "" } else { default });
        let settings = Settings::gather(text, environment)?;
        let user = match settings.get("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|_| ConninfoError::NoUser)?,
        };
        let database = settings.get("dbname").unwrap_or(&user).to_owned();
        let mut common = common(&settings, environment)?;
        common.user(user).dbname(&database);
        let several = settings.list("host").len().max(settings.list("hostaddr").len()) > 1;
        let timeout = timeout(&settings, several)?;
        if let ConnectTimeout::Given(Some(limit)) | ConnectTimeout::Default(limit) = timeout {
            common.connect_timeout(limit);
        }
        let balances = [("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)];
        let balance = settings.choice("load_balance_hosts", &balances)?.unwrap_or(LoadBalanceHosts::Disable);
        common.load_balance_hosts(balance);
        let hosts = hosts(&settings, &common)?;
        let home = environment("HOME").map(PathBuf::from);
        let usual = home.as_ref().map(|home| home.join(".pgpass"));
        let passwords = settings.get("passfile").map(PathBuf::from).or(usual).map(|path| PasswordFile::read(&path));
        let local = hosts.iter().all(HostConfig::is_local);
        let application = settings.get("application_name").or_else(|| settings.get("fallback_application_name"));
        Ok(Self {
            shuffled: balance == LoadBalanceHosts::Random,
            database,
            application: application.map(str::to_owned),
            timeout,
            attributes: SessionAttributes::of(&settings, several)?,
            protection: Protection::of(&settings, local, home.as_deref())?,
            passwords: passwords.unwrap_or_default(),
            name: None,
            source: None,
            hosts,
        })
    }

    /// Returns true if all hosts are on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(HostConfig::is_local)
    }

    /// Returns the TLS mode.
    #[must_use]
    pub fn ssl_mode(&self) -> SslMode {
        self.protection.mode
    }

    /// Returns true if TLS starts without asking the server for it (`sslnegotiation=direct`).
    #[must_use]
    pub fn negotiates_tls_directly(&self) -> bool {
        self.protection.negotiation == SslNegotiation::Direct
    }

    /// Returns true if the client has a certificate for servers that ask for one.
    #[must_use]
    pub fn has_client_certificate(&self) -> bool {
        self.protection.has_certificate
    }

    /// Returns the same settings with `name` as the application name.
    ///
    /// The user's `application_name` follows in parentheses, so that the program recognizes its sessions by the prefix.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let mut named = self.clone();
        named.name = Some(name.to_owned());
        let name = match &self.application {
            Some(application) => format!("{name} ({application})"),
            None => name.to_owned(),
        };
        for host in &mut named.hosts {
            host.config.application_name(&name);
        }
        named
    }

    /// Returns the hosts in connection order, with their passwords.
    pub(crate) fn hosts(&self) -> Vec<HostConfig> {
        let mut hosts = self.hosts.clone();
        if self.shuffled {
            let order = RandomState::new();
            hosts.sort_by_cached_key(|host| order.hash_one(host.to_string()));
        }
        for host in &mut hosts {
            host.take_password(&self.passwords);
        }
        hosts
    }

    /// Returns the timeout for a host. By default the last host has none: the caller decides how long to wait.
    pub(crate) fn limit(&self, is_last: bool) -> Option<Duration> {
        match self.timeout {
            ConnectTimeout::Given(limit) => limit,
            // Twice the time, for TLS and authentication in addition to the TCP connection.
            ConnectTimeout::Default(limit) => (!is_last).then_some(limit * 2),
        }
    }

    pub(crate) fn attributes(&self) -> SessionAttributes {
        self.attributes
    }

    pub(crate) fn protection(&self) -> &Protection {
        &self.protection
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.database)
    }
}

/// Returns the settings that all hosts share.
fn common(settings: &Settings, environment: Environment<'_>) -> Result<Config, ConninfoError> {
    let mut config = Config::new();
    if let Some(password) = settings.get("password") {
        config.password(password);
    }
    let geqo = geqo(environment)?;
    let options = [settings.get("options"), geqo.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if !options.is_empty() {
        config.options(options);
    }
    let bindings = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    config.channel_binding(settings.choice("channel_binding", &bindings)?.unwrap_or(ChannelBinding::Prefer));
    keepalives(settings, &mut config)?;
    Ok(config)
}

/// Sets keepalives and timeouts that limit the time until a dead server is detected.
fn keepalives(settings: &Settings, config: &mut Config) -> Result<(), ConninfoError> {
    // Zero and negative values select the system default, as in libpq.
    let positive = |name: &str| Ok(settings.integer(name)?.map(|value| u32::try_from(value).unwrap_or_default()));
    config.keepalives(settings.integer("keepalives")?.is_none_or(|value| value != 0));
    config.keepalives_idle(match positive("keepalives_idle")? {
        None => Duration::from_secs(10),
        Some(0) => SYSTEM_KEEPALIVES_IDLE,
        Some(seconds) => Duration::from_secs(seconds.into()),
    });
    if let Some(seconds) = positive("keepalives_interval")?.filter(|seconds| *seconds > 0) {
        config.keepalives_interval(Duration::from_secs(seconds.into()));
    }
    if let Some(count) = positive("keepalives_count")?.filter(|count| *count > 0) {
        config.keepalives_retries(count);
    }
    let limit = positive("tcp_user_timeout")?.unwrap_or(20_000);
    if limit > 0 {
        config.tcp_user_timeout(Duration::from_millis(limit.into()));
    }
    Ok(())
}

fn timeout(settings: &Settings, several: bool) -> Result<ConnectTimeout, ConninfoError> {
    Ok(match settings.integer("connect_timeout")? {
        Some(seconds) => {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            ConnectTimeout::Given((seconds > 0).then(|| Duration::from_secs(seconds)))
        }
        // With several hosts, a dead one must leave time for the next.
        None => ConnectTimeout::Default(Duration::from_secs(if several { 2 } else { 5 })),
    })
}

/// Returns `PGGEQO` as a server option.
fn geqo(environment: Environment<'_>) -> Result<Option<String>, ConninfoError> {
    match environment("PGGEQO").map(|value| value.to_ascii_lowercase()) {
        None => Ok(None),
        Some(value) if value == "default" => Ok(None),
        Some(value) if ["on", "off"].contains(&value.as_str()) => Ok(Some(format!("-c geqo={value}"))),
        Some(value) => {
            let expected = "one of on, off, default".to_owned();
            Err(ConninfoError::Value { name: "PGGEQO".to_owned(), value, expected })
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
