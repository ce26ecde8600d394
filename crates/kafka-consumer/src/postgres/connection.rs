//! Resolves connection settings and opens the first connection of a program.

use std::time::Duration;

use anyhow::{Context, bail};
use pg_conninfo::{Conninfo, ConninfoError};
use pipeline_runtime::START_LOCAL_STACK;
use tokio_postgres::{Client, Error};

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
        let client = connect(target).await.map_err(|error| refusal(error, target))?;
        // A server that has room for one session only cannot share it, so the check is skipped.
        let Ok(other) = connect(&target.named("kafka-consumer probe")).await else { return Ok(client) };
        if pooler::shares_sessions(&client, &other).await.with_context(|| unreachable(target))? {
            bail!(
                "a connection pooler that shares sessions (such as PgBouncer with pool_mode=transaction) stands at \
                 {target}; the consumer needs a session of its own for its locks, settings and prepared statements: \
                 name PostgreSQL itself, or a pool with pool_mode=session"
            );
        }
        Ok(client)
    };
    match tokio::time::timeout(TIMEOUT, opening).await {
        Ok(opened) => opened,
        Err(_) => bail!("{} (no answer within {} s)", unreachable(target), TIMEOUT.as_secs()),
    }
}

fn refusal(error: Error, target: &Conninfo) -> anyhow::Error {
    let text = if error.as_db_error().is_some() {
        format!("PostgreSQL at {target} refused the connection")
    } else if pg_conninfo::tls_failure(&error).is_some() {
        let mode = target.ssl_mode();
        let text = describe(&error);
        return anyhow::anyhow!("no TLS with PostgreSQL at {target} (sslmode={mode}): {text}{}", tls_hint(&text));
    } else if is_about_the_target(&error) {
        format!("PostgreSQL at {target} cannot be used as asked")
    } else {
        unreachable(target)
    };
    anyhow::Error::new(error).context(text)
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
        "; `ssl = on` makes it offer TLS, sslmode=disable does without where the network is trusted"
    } else if text.contains("mismatch") {
        "; the certificate is for another name: connect by the name that it has"
    } else if text.contains("certificate verify failed") {
        "; sslrootcert names the file with the certificate of the authority that issued the server's"
    } else {
        ""
    }
}

fn unreachable(target: &Conninfo) -> String {
    format!(
        "PostgreSQL at {target} does not answer; `{START_LOCAL_STACK}` starts the local one, --database-url names another"
    )
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
