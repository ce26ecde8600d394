//! Opens sessions host by host, with or without TLS as the mode requires.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage, Socket};

use crate::conninfo::Conninfo;
use crate::host::HostConfig;
use crate::session_attributes::{ServerState, SessionAttributes};
use crate::tls::{Protection, SslMode, tls_failure};

/// Opens a session on the first host with the required attributes.
///
/// As in libpq, an error that a server reports ends the search unless it is `cannot_connect_now`. A spawned task drives
/// the connection until the client is dropped. Files with passwords, services and certificates are read again.
///
/// The future is boxed, so that the code of a login is compiled once here instead of in each crate that awaits it.
#[must_use]
pub fn connect(conninfo: &Conninfo) -> Pin<Box<dyn Future<Output = Result<Client, Error>> + Send>> {
    let conninfo = conninfo.reloaded();
    Box::pin(async move { connect_to_first(&conninfo).await })
}

async fn connect_to_first(conninfo: &Conninfo) -> Result<Client, Error> {
    let mut last = None;
    let passes = conninfo.attributes().passes();
    for (pass, demand) in passes.iter().enumerate() {
        let hosts = conninfo.hosts();
        for (number, host) in hosts.iter().enumerate() {
            let is_last = pass + 1 == passes.len() && number + 1 == hosts.len();
            match enter_in_time(host, conninfo, *demand, conninfo.limit(is_last)).await {
                Ok(client) => return Ok(client),
                Err(error) if error.code().is_some_and(|code| *code != SqlState::CANNOT_CONNECT_NOW) => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
    }
    match last {
        Some(error) => Err(error),
        None => Err(error_of(io::ErrorKind::NotFound, "no host").await),
    }
}

async fn enter_in_time(
    host: &HostConfig,
    conninfo: &Conninfo,
    demand: SessionAttributes,
    limit: Option<Duration>,
) -> Result<Client, Error> {
    let entering = enter(host, conninfo.protection(), demand);
    let Some(limit) = limit else { return entering.await };
    match tokio::time::timeout(limit, entering).await {
        Ok(entered) => entered,
        Err(_) => Err(error_of(io::ErrorKind::TimedOut, "no answer in time").await),
    }
}

/// Connects to a host with TLS, without TLS, or with one after the other.
async fn enter(host: &HostConfig, protection: &Protection, demand: SessionAttributes) -> Result<Client, Error> {
    let tries: &[bool] = match protection.mode {
        _ if host.is_socket() => &[false],
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    };
    let (first, second) = (tries[0], tries.get(1));
    match (attempt(host, protection, demand, first).await, second) {
        (Err(error), Some(second)) if asks_for_the_other(&error) => attempt(host, protection, demand, *second).await,
        (result, _) => result,
    }
}

/// Returns true if the server refused the kind of connection (it has no TLS, or `pg_hba.conf` has no line for it), not
/// the user or the password.
fn asks_for_the_other(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) || tls_failure(error).is_some()
}

async fn attempt(
    host: &HostConfig,
    protection: &Protection,
    demand: SessionAttributes,
    encrypted: bool,
) -> Result<Client, Error> {
    protection.warn_of(host, encrypted);
    let mut config = host.config.clone();
    let (client, state) = match &protection.connector {
        Some(connector) if encrypted => {
            config.ssl_mode(Encryption::Require).ssl_negotiation(protection.negotiation);
            open(&config, connector.clone()).await?
        }
        _ => open(config.ssl_mode(Encryption::Disable), NoTls).await?,
    };
    if demand != SessionAttributes::Any {
        let state = match state {
            Some(state) => state,
            None => ask_state(&client).await?,
        };
        if let Some(objection) = demand.objection(state) {
            return Err(error_of(io::ErrorKind::PermissionDenied, objection).await);
        }
    }
    Ok(client)
}

/// Opens a session. Also returns the state of the server if the server reports it.
///
/// PostgreSQL 14 and later do; a pooler may not.
async fn open<T>(config: &Config, tls: T) -> Result<(Client, Option<ServerState>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let is_on = |name: &str| connection.parameter(name).map(|value| value == "on");
    let state = is_on("in_hot_standby").zip(is_on("default_transaction_read_only"));
    tokio::spawn(async move {
        // The waiting client receives the error too and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "PostgreSQL connection ended");
        }
    });
    Ok((client, state.map(|(in_hot_standby, read_only)| ServerState { in_hot_standby, read_only })))
}

async fn ask_state(client: &Client) -> Result<ServerState, Error> {
    let question = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
    let mut state = ServerState { in_hot_standby: false, read_only: false };
    for message in client.simple_query(question).await? {
        if let SimpleQueryMessage::Row(row) = message {
            state = ServerState { in_hot_standby: row.get(0) == Some("t"), read_only: row.get(1) == Some("on") };
        }
    }
    Ok(state)
}

/// Creates an error of `tokio-postgres`, which has no constructor for one.
async fn error_of(kind: io::ErrorKind, text: &'static str) -> Error {
    match Config::new().user("nobody").connect_raw(Failing { kind, text }, NoTls).await {
        Ok(_) => unreachable!("every call fails"),
        Err(error) => error,
    }
}

/// A connection on which every call fails.
#[derive(Debug)]
struct Failing {
    kind: io::ErrorKind,
    text: &'static str,
}

impl Failing {
    fn fail<T>(&self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(io::Error::new(self.kind, self.text)))
    }
}

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}
