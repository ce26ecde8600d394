//! How PostgreSQL is reached, and what its errors mean.

mod fault;
mod target;
mod tls;

use std::time::Duration;

use anyhow::Context;
use pipeline_runtime::START_LOCAL_STACK;
use tokio_postgres::{Client, NoTls};

pub use fault::{SqlFault, classify};
use target::Tls;
pub use target::{Target, TargetError};

/// How long a server may take to answer when a program starts.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every session of ours is set to. A transaction that its client left idle ends by itself, and so does one whose
/// client's machine has vanished: within half a minute.
const SESSION: &str = "SET timezone = 'UTC'; SET client_min_messages = 'warning'; \
                       SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s'; \
                       SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
                       SET tcp_user_timeout = '25s'";

/// Opens a session. Its connection is driven by a task of its own that ends with the client.
pub async fn connect(target: &Target) -> Result<Client, tokio_postgres::Error> {
    let client = match target.tls() {
        Tls::Off => {
            let (client, connection) = target.config().connect(NoTls).await?;
            tokio::spawn(drive(connection));
            client
        }
        Tls::VerifyFull(connector) => {
            let (client, connection) = target.config().connect(connector.clone()).await?;
            tokio::spawn(drive(connection));
            client
        }
    };
    client.batch_execute(SESSION).await?;
    Ok(client)
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    // Whoever waits for an answer on the client gets the error too, and knows what to do about it.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "postgres connection ended");
    }
}

/// Opens the first session of a program: a server that is not there is said at once, with what to do.
pub async fn connect_at_start(target: &Target) -> anyhow::Result<Client> {
    match tokio::time::timeout(PATIENCE, connect(target)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) if error.as_db_error().is_some() => {
            Err(error).with_context(|| format!("PostgreSQL at {target} refused the connection"))
        }
        Ok(Err(error)) => Err(anyhow::Error::new(error)).with_context(|| unreachable(target)),
        Err(_) => anyhow::bail!("{} (no answer within {} s)", unreachable(target), PATIENCE.as_secs()),
    }
}

fn unreachable(target: &Target) -> String {
    format!(
        "PostgreSQL at {target} does not answer; `{START_LOCAL_STACK}` starts the local one, --database-url names another"
    )
}

/// An error of PostgreSQL with all that it says.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => {
            let detail = database.detail().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{} [{}]{detail}", database.message(), database.code().code())
        }
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}
