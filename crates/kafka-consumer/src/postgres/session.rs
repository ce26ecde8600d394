//! Opens sessions with the settings that our SQL depends on.

use pg_conninfo::Conninfo;
use tokio_postgres::{Client, Error};

/// Settings of every session.
///
/// They are sent in one round trip, and without a backslash, whose meaning depends on `standard_conforming_strings`.
/// The database, the role, `PGOPTIONS` or a pooler may have set each of them differently.
///
/// `pg_catalog` comes first in the search path and the temporary schema second, so that no other schema hides a
/// function, an operator, a catalog or a work table. The configured path follows for the owner's triggers. `RESET`
/// keeps the path from growing in a pooled session.
///
/// The settings of Citus, which other servers ignore, write to the shards of a worker over one connection: with several,
/// two writers wait for each other, and each row costs four times as much.
///
/// The server ends a transaction after its client was idle for a minute, and one whose client's machine has vanished
/// within half a minute. `statement_timeout` and the owner's other limits keep their values.
const SESSION: &str = "\
    RESET search_path; \
    SELECT pg_catalog.set_config('search_path', pg_catalog.rtrim(pg_catalog.concat('pg_catalog, pg_temp, ', \
        pg_catalog.current_setting('search_path')), ', '), false); \
    SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off; \
    SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
    SET bytea_output = 'hex'; SET extra_float_digits = 1; SET array_nulls = on; SET quote_all_identifiers = off; \
    SET transform_null_equals = off; SET xmloption = 'content'; SET check_function_bodies = on; SET jit = off; \
    SET client_min_messages = 'warning'; \
    SET citus.multi_shard_modify_mode = 'sequential'; SET citus.enable_deadlock_prevention = off; \
    SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '30s'; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
    SET tcp_user_timeout = '25s'";

/// Opens a session and applies the settings. A spawned task drives the connection until the client is dropped.
pub async fn connect(target: &Conninfo) -> Result<Client, Error> {
    let client = pg_conninfo::connect(target).await?;
    client.batch_execute(SESSION).await?;
    Ok(client)
}
