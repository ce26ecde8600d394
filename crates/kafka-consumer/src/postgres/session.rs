//! Opening a session with the settings that our SQL relies on.

use pg_conninfo::Conninfo;
use tokio_postgres::{Client, Error};

/// Settings of every session. The server ends a transaction that its client left idle after a minute, and one whose client's
/// machine has vanished within half a minute.
const SESSION: &str = "SET timezone = 'UTC'; SET client_min_messages = 'warning'; \
                       SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s'; \
                       SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
                       SET tcp_user_timeout = '25s'";

/// Opens a session with them. A spawned task drives the connection until the client is dropped.
pub async fn connect(target: &Conninfo) -> Result<Client, Error> {
    let client = pg_conninfo::connect(target).await?;
    client.batch_execute(SESSION).await?;
    Ok(client)
}
