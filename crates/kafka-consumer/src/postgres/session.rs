//! Opening a session: host by host, with and without TLS as the mode has it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::fault::tls_fault;
use super::host::Place;
use super::target::{Protection, Target};
use super::tls::Mode;

/// What every session of ours is set to. A transaction that its client left idle ends by itself, and so does one whose
/// client's machine has vanished: within half a minute.
const SESSION: &str = "SET timezone = 'UTC'; SET client_min_messages = 'warning'; \
                       SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s'; \
                       SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
                       SET tcp_user_timeout = '25s'";

/// Opens a session on the first host that gives one; a host that refuses the user or the database ends the search, as
/// it does in libpq. The connection is driven by a task of its own that ends with the client.
pub async fn connect(target: &Target) -> Result<Client, Error> {
    let mut last = None;
    let places = target.places();
    for (number, place) in places.iter().enumerate() {
        // The client library's own limit ends where the server has accepted the connection. Whoever is slow and the last
        // one is waited for as long as the caller likes.
        let limit = place.config.get_connect_timeout().filter(|_| number + 1 < places.len()).map(|limit| *limit * 2);
        let entering = enter(place, target.protection());
        let entered = match limit {
            Some(limit) => match tokio::time::timeout(limit, entering).await {
                Ok(entered) => entered,
                Err(_) => Err(no_answer().await),
            },
            None => entering.await,
        };
        match entered {
            Ok(client) => {
                client.batch_execute(SESSION).await?;
                return Ok(client);
            }
            Err(error) if error.code().is_some_and(|code| *code != SqlState::CANNOT_CONNECT_NOW) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => Err(no_answer().await),
    }
}

/// Tries a host with TLS, without, or with one after the other.
async fn enter(place: &Place, protection: &Protection) -> Result<Client, Error> {
    let tries: &[bool] = match protection.mode {
        _ if place.is_socket() => &[false],
        Mode::Disable => &[false],
        Mode::Allow => &[false, true],
        Mode::Prefer => &[true, false],
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => &[true],
    };
    let (first, second) = (tries[0], tries.get(1));
    match (attempt(place, protection, first).await, second) {
        (Err(error), Some(second)) if asks_for_the_other(&error) => attempt(place, protection, *second).await,
        (result, _) => result,
    }
}

/// Whether the server turned down the way of the connection (no TLS there, no line in `pg_hba.conf` for it), not its
/// user or password.
fn asks_for_the_other(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) || tls_fault(error).is_some()
}

async fn attempt(place: &Place, protection: &Protection, encrypted: bool) -> Result<Client, Error> {
    protection.warn_of(place, encrypted);
    let mut config = place.config.clone();
    match &protection.connector {
        Some(connector) if encrypted => {
            let (client, connection) = config.ssl_mode(SslMode::Require).connect(connector.clone()).await?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
        _ => {
            let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
    }
}

async fn drive(connection: impl Future<Output = Result<(), Error>>) {
    // Whoever waits for an answer on the client gets the error too, and knows what to do about it.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "postgres connection ended");
    }
}

/// The client library's error for a server that says nothing, which it has no way to make.
async fn no_answer() -> Error {
    match Config::new().user("nobody").connect_raw(Silent, NoTls).await {
        Ok(_) => unreachable!("nobody is there"),
        Err(error) => error,
    }
}

/// A server that does not answer.
#[derive(Debug)]
struct Silent;

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        timed_out()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }
}
