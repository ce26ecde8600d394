//! Resolves connection settings and opens the first connection of a program.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use pg_conninfo::{Conninfo, ConninfoError};
use pipeline_runtime::START_LOCAL_STACK;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::postgres::fault;
use crate::postgres::pooler;
use crate::postgres::session::connect;

/// Warehouse of the local stack, used if neither `--database-url` nor the environment names another one.
const DEFAULT_URL: &str = "postgres://admin:admin@localhost:5433/warehouse";

/// Resolves `--database-url`, else the `PG*` variables, else the warehouse of the local stack.
pub fn resolve(url: Option<&str>) -> Result<Conninfo, ConninfoError> {
    Conninfo::resolve(url, DEFAULT_URL)
}

/// Timeout for the first connection, over all hosts.
const TIMEOUT: Duration = Duration::from_secs(9);

/// Opens the first session of a program.
///
/// Fails if no server answers within nine seconds, or if the address is that of a connection pooler that shares
/// sessions between clients. The error names a remedy.
pub async fn connect_at_start(target: &Conninfo) -> anyhow::Result<Client> {
    let opening = async {
        let client = connect(target).await.map_err(|error| refusal(&error, target))?;
        // A server that has room for one session only cannot share it, so the check is skipped.
        let Ok(other) = connect(&target.named("kafka-consumer probe")).await else { return Ok(client) };
        if pooler::shares_sessions(&client, &other).await.with_context(|| failure(target))? {
            bail!(
                "cannot use {target}: a connection pooler (such as PgBouncer with pool_mode=transaction) shares \
                 sessions there, but locks, settings and prepared statements need a dedicated one; connect to \
                 PostgreSQL directly, or set pool_mode=session"
            );
        }
        Ok(client)
    };
    match tokio::time::timeout(TIMEOUT, opening).await {
        Ok(opened) => opened,
        Err(_) => bail!("{}: no answer within {} s; {}", failure(target), TIMEOUT.as_secs(), start_hint()),
    }
}

/// Adds the remedy for the cause to an error of the first connection.
fn refusal(error: &Error, target: &Conninfo) -> anyhow::Error {
    let text = describe(error);
    let mode = target.ssl_mode();
    let remedy = if fault::is_raised_by_pooler(error) {
        "start PostgreSQL behind the connection pooler, or raise the pooler's limits".to_owned()
    } else if error.as_db_error().is_some() {
        server_hint(error.code()).to_owned()
    } else if pg_conninfo::tls_failure(error).is_some() {
        return anyhow!("{} with TLS (sslmode={mode}): {text}{}", failure(target), tls_hint(&text));
    } else if fault::is_login_refusal(error) || (target.has_client_certificate() && fault::is_reset(error)) {
        // With TLS 1.3 the server reports a refused client certificate after the handshake, and closes the connection.
        // The reset can overtake the report.
        "check the client certificate in sslcert, and the server's ssl_ca_file".to_owned()
    } else if text.contains("password missing") {
        "set PGPASSWORD, or add the password to --database-url or the password file".to_owned()
    } else if target.negotiates_tls_directly() && text.contains("TLS handshake") {
        // Older servers close the connection.
        "remove sslnegotiation=direct, which requires PostgreSQL 17 or newer".to_owned()
    } else if is_about_the_target(error) {
        "correct --database-url".to_owned()
    } else {
        start_hint()
    };
    anyhow!("{}: {text}; {remedy}", failure(target))
}

fn start_hint() -> String {
    format!("start the local stack with '{START_LOCAL_STACK}', or set --database-url")
}

/// Returns the remedy for a connection that the server refused.
fn server_hint(state: Option<&SqlState>) -> &'static str {
    match state {
        Some(&SqlState::INVALID_PASSWORD) => {
            "check the user and the password in --database-url, PGPASSWORD or PGPASSFILE"
        }
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => "check the user, and the server's pg_hba.conf",
        Some(&SqlState::INVALID_CATALOG_NAME) => "create the database, or correct its name in --database-url",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => "close other sessions, or raise max_connections",
        Some(&SqlState::CANNOT_CONNECT_NOW) => "try again once the server has started",
        _ => "correct --database-url, or the settings of the server",
    }
}

/// Returns true if the server answers but does not meet the requirements of the address, or the address those of the
/// server.
fn is_about_the_target(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    io.map_or(!error.is_closed(), |io| io.kind() == std::io::ErrorKind::PermissionDenied)
}

fn tls_hint(text: &str) -> &'static str {
    if text.contains("does not support TLS") {
        "; set 'ssl = on' on the server, or pass sslmode=disable on a trusted network"
    } else if text.contains("mismatch") {
        "; connect by the host name in the certificate"
    } else if text.contains("certificate verify failed") {
        "; set sslrootcert to the certificate file of the authority that issued it"
    } else {
        ""
    }
}

fn failure(target: &Conninfo) -> String {
    format!("cannot connect to PostgreSQL at {target}")
}

/// Describes an error with all that PostgreSQL reports: message, SQLSTATE and detail.
#[must_use]
pub(crate) fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(database) => {
            let detail = database.detail().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{} [{}]{detail}", database.message(), database.code().code())
        }
        None => pg_conninfo::tls_failure(error).unwrap_or_else(|| {
            std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }),
    }
}
