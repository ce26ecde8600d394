//! One of the hosts of an address.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts};

use super::passfile::PassFile;

/// A host with a configuration that names no other.
pub(super) struct Place {
    pub(super) config: Config,
    name: String,
    port: u16,
    local: bool,
    socket: bool,
}

impl Place {
    /// Whether nothing that is sent there leaves this machine.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// The password that the password file has for it, where none is given otherwise.
    pub(super) fn take_password(&mut self, file: &PassFile) {
        if self.config.get_password().is_none() {
            let user = self.config.get_user().unwrap_or_default();
            let database = self.config.get_dbname().unwrap_or(user);
            // libpq's name for whatever socket.
            let host = if self.socket { "localhost" } else { &self.name };
            if let Some(password) = file.password([host, &self.port.to_string(), database, user]) {
                self.config.password(password);
            }
        }
    }

    /// Whether it is a Unix socket, which knows no TLS.
    pub(super) fn is_socket(&self) -> bool {
        self.socket
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// The hosts of an address, in the order in which they are to be tried.
pub(super) fn places(config: &Config) -> Vec<Place> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let mut all: Vec<Place> = (0..hosts.len().max(addresses.len()))
        .map(|index| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            place(config, hosts.get(index), addresses.get(index).copied(), port)
        })
        .collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        let turn = RandomState::new();
        all.sort_by_cached_key(|place| turn.hash_one((&place.name, place.port)));
    }
    all
}

fn place(config: &Config, host: Option<&Host>, address: Option<IpAddr>, port: u16) -> Place {
    let mut single = without_hosts(config);
    single.port(port);
    let name = match host {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        // The certificate is checked for the address then.
        None => address.map(|address| address.to_string()).unwrap_or_default(),
    };
    single.host(&name);
    let socket = matches!(host, Some(Host::Unix(_)));
    if let Some(address) = address {
        single.hostaddr(address);
    }
    let is_loopback = |name: &str| name == "localhost" || name.parse::<IpAddr>().is_ok_and(|one| one.is_loopback());
    let local = socket || address.map_or_else(|| is_loopback(&name), |address| address.is_loopback());
    Place { config: single, name, port, local, socket }
}

fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(database) = config.get_dbname() {
        copy.dbname(database);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        copy.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    copy.ssl_negotiation(config.get_ssl_negotiation());
    copy.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    copy.load_balance_hosts(config.get_load_balance_hosts());
    copy
}
