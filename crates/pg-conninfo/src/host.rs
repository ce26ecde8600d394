//! Hosts of a connection.

use std::fmt;
use std::net::IpAddr;

use tokio_postgres::Config;

use crate::error::ConninfoError;
use crate::password_file::PasswordFile;
use crate::settings::Settings;

/// A host and its configuration, which names no other host.
#[derive(Clone)]
pub(crate) struct HostConfig {
    pub(crate) config: Config,
    name: String,
    address: Option<IpAddr>,
    port: u16,
}

impl HostConfig {
    /// Returns true if traffic to the host does not leave this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self.address {
            Some(address) => address.is_loopback(),
            None => self.is_socket() || is_loopback(&self.name),
        }
    }

    /// Returns true for a Unix socket, which has no TLS.
    pub(crate) fn is_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with('/')
    }

    /// Sets the password from the password file unless one is set already.
    pub(crate) fn take_password(&mut self, file: &PasswordFile) {
        if self.config.get_password().is_none() {
            let user = self.config.get_user().unwrap_or_default();
            let database = self.config.get_dbname().unwrap_or(user);
            // libpq looks up every socket under this name.
            let host = if self.is_socket() { "localhost" } else { &self.name };
            if let Some(password) = file.password([host, &self.port.to_string(), database, user]) {
                self.config.password(password);
            }
        }
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.map(|address| address.to_string()).filter(|address| *address != self.name) {
            Some(address) => write!(f, "{}({address}):{}", self.name, self.port),
            None => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Returns the hosts in the order of the settings, each with the settings in `common`.
pub(crate) fn hosts(settings: &Settings, common: &Config) -> Result<Vec<HostConfig>, ConninfoError> {
    let (names, addresses) = (settings.list("host"), settings.list("hostaddr"));
    let ports = settings.list("port");
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        let text = format!(
            "{} host names, but {} addresses in hostaddr; give one address per name",
            names.len(),
            addresses.len()
        );
        return Err(ConninfoError::Conflict(text));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(ConninfoError::Conflict(format!(
            "{} ports, but {count} hosts; give one port, or one per host",
            ports.len()
        )));
    }
    (0..count)
        .map(|index| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
            let port = match port {
                "" => 5432,
                text => {
                    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| settings.invalid("port", "1 to 65535"))?
                }
            };
            let address = addresses.get(index).copied().filter(|address| !address.is_empty());
            let address = address.map(|text| text.parse().map_err(|_| settings.invalid("hostaddr", "IP addresses")));
            host(settings, common, names.get(index).copied().unwrap_or_default(), address.transpose()?, port)
        })
        .collect()
}

fn host(
    settings: &Settings,
    common: &Config,
    name: &str,
    address: Option<IpAddr>,
    port: u16,
) -> Result<HostConfig, ConninfoError> {
    if name.starts_with('@') {
        return Err(settings.unsupported("host", "Unix sockets in the abstract namespace are not supported"));
    }
    let name = match (name, address) {
        // The certificate is then verified for the address.
        ("", Some(address)) => address.to_string(),
        ("", None) => "localhost".to_owned(),
        (name, _) => name.to_owned(),
    };
    let mut config = common.clone();
    config.host(&name).port(port);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    Ok(HostConfig { config, name, address, port })
}
