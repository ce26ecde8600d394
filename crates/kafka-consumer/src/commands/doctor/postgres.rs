//! Checks PostgreSQL: session, TLS, migrations, privileges, table partitions, settings, free connections and clock.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::{Client, Row};

use crate::commands::doctor::cluster;
use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::{Finding, Findings};
use crate::commands::doctor::rehearsal;
use crate::postgres::{self, describe, migrations, old_snapshots};

/// Findings, and values for comparison with Kafka and this machine.
#[derive(Default)]
pub(crate) struct Warehouse {
    pub(crate) lines: Vec<Finding>,
    /// Next offset of the group, by partition.
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// Seconds by which PostgreSQL's clock is ahead of this machine's; negative if it is behind.
    pub(crate) clock_ahead: Option<f64>,
}

const OLDEST_VERSION: i32 = 150_000;
/// Maximum time that a writer waits for an answer. A shorter `statement_timeout` cancels statements that are only slow.
const LONGEST_STATEMENT_MILLIS: i64 = 90_000;

pub(crate) async fn examine(settings: &DoctorConfig) -> Warehouse {
    let mut lines = Findings::of("postgresql");
    let mut client = match postgres::connect_at_start(&settings.target.named("event-pipeline doctor")).await {
        Ok(client) => client,
        Err(error) => {
            let fix = "correct the address, the user or the server; docs/security.md covers users and TLS";
            lines.bad("connection", format!("{error:#}"), fix);
            return Warehouse { lines: lines.lines, ..Warehouse::default() };
        }
    };
    let mut warehouse = Warehouse::default();
    if let Err(error) = ask(&mut client, settings, &mut lines, &mut warehouse).await {
        lines.bad("queries", describe(&error), "check that the role may connect to this database");
    }
    warehouse.lines = lines.lines;
    warehouse
}

const SESSION: &str = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), current_user::text,
    current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
    extract(epoch FROM clock_timestamp())::double precision";

async fn ask(
    client: &mut Client,
    settings: &DoctorConfig,
    lines: &mut Findings,
    warehouse: &mut Warehouse,
) -> Result<(), tokio_postgres::Error> {
    let asked = now();
    let session = client.query_one(SESSION, &[]).await?;
    let half = (now() - asked) / 2.0;
    warehouse.clock_ahead = Some(session.get::<_, f64>(6) - asked - half);
    check_session(&session, settings, lines);
    let role: String = session.get(3);
    match migrations::pending(client).await {
        Ok(missing) if missing.is_empty() => {
            lines.good("migrations", "all applied");
            let may_write = rights(client, &role, lines).await?;
            partitions(client, lines).await?;
            let sql =
                "SELECT partition, next_offset FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2";
            let rows = client.query(sql, &[&settings.group_topic.group, &settings.group_topic.topic]).await?;
            warehouse.offsets = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            if may_write && !is_read_only(&session) {
                rehearsal::rehearse(client, &settings.group_topic, lines).await?;
            }
            cluster::examine(client, settings.writers, lines).await?;
        }
        Ok(missing) => lines.bad(
            "migrations",
            format!("pending: {}", missing.join(", ")),
            "run 'kafka-consumer migrate' as the owner of the schemas",
        ),
        Err(error) => {
            lines.bad("migrations", format!("{error:#}"), "run 'kafka-consumer migrate' as the owner of the schemas");
        }
    }
    snapshots(client, lines).await?;
    server_settings(client, lines).await?;
    connections(client, settings.writers, lines).await
}

fn check_session(session: &Row, settings: &DoctorConfig, lines: &mut Findings) {
    let (number, version): (i32, String) = (session.get(0), session.get(1));
    lines.good("connection", format!("{} as {}", settings.target, session.get::<_, String>(3)));
    if number < OLDEST_VERSION {
        lines.bad("version", version, "upgrade to PostgreSQL 15 or later");
    } else {
        lines.good("version", version);
    }
    if is_read_only(session) {
        let fix = "connect to the primary (target_session_attrs=read-write), or reset default_transaction_read_only of the role";
        lines.bad("write access", "the session is read-only: a standby, or a read-only role", fix);
    }
    match (session.get::<_, bool>(2), settings.target.is_local()) {
        (true, _) => lines.good("TLS", "encrypted"),
        (false, true) => lines.good("TLS", "none, local connection"),
        (false, false) => lines.warn(
            "TLS",
            "none: the password and the data can be read on the network",
            "set sslmode=verify-full in --database-url (docs/security.md)",
        ),
    }
}

fn is_read_only(session: &Row) -> bool {
    session.get::<_, bool>(4) || session.get::<_, bool>(5)
}

/// Selects the privileges that `run` needs, that `pipeline_writer` has, and that the session's role lacks.
const RIGHTS: &str = "SELECT what, may FROM (VALUES
    ('INSERT on staging.product_events_raw', has_table_privilege('staging.product_events_raw', 'INSERT')),
    ('SELECT on staging.product_events_raw', has_table_privilege('staging.product_events_raw', 'SELECT')),
    ('UPDATE on pipeline.consumer_offsets', has_table_privilege('pipeline.consumer_offsets', 'UPDATE')),
    ('INSERT on pipeline.dead_letters', has_table_privilege('pipeline.dead_letters', 'INSERT')),
    ('INSERT on pipeline.touched_hours', has_table_privilege('pipeline.touched_hours', 'INSERT')),
    ('EXECUTE on pipeline.ensure_partition(date)', has_function_privilege('pipeline.ensure_partition(date)', 'EXECUTE')),
    ('TEMPORARY on the database', has_database_privilege(current_database(), 'TEMPORARY'))) AS needed (what, may)
    WHERE NOT may";

/// Returns true if no privilege is missing.
async fn rights(client: &Client, role: &str, lines: &mut Findings) -> Result<bool, tokio_postgres::Error> {
    // Without USAGE on the schema, `has_table_privilege` is an error.
    let schemas = "SELECT has_schema_privilege('staging', 'USAGE') AND has_schema_privilege('pipeline', 'USAGE')";
    let missing = if client.query_one(schemas, &[]).await?.get(0) {
        client.query(RIGHTS, &[]).await?.iter().map(|row| row.get(0)).collect()
    } else {
        vec!["USAGE on the schemas staging and pipeline".to_owned()]
    };
    if missing.is_empty() {
        lines.good("privileges", format!("{role} has all that a run needs"));
    } else {
        let found = format!("{role} lacks {}", missing.join(", "));
        lines.bad("privileges", found, format!("GRANT pipeline_writer TO {role} (docs/security.md)"));
    }
    Ok(missing.is_empty())
}

/// Selects the number of table partitions, the names of those without a unique index, and the DEFAULT partition.
const PARTITIONS: &str = "SELECT count(*), string_agg(inhrelid::regclass::text, ', ' ORDER BY inhrelid::regclass::text)
            FILTER (WHERE inhrelid <> partdefid AND NOT EXISTS (
                SELECT FROM pg_index WHERE indrelid = inhrelid AND indisunique AND indisvalid)),
        min(partdefid::regclass::text) FILTER (WHERE inhrelid = partdefid)
    FROM pg_inherits JOIN pg_partitioned_table ON partrelid = inhparent
    WHERE inhparent = 'staging.product_events_raw'::regclass";

async fn partitions(client: &Client, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let row = client.query_one(PARTITIONS, &[]).await?;
    let all: i64 = row.get(0);
    if let Some(without) = row.get::<_, Option<String>>(1) {
        let fix = "delete duplicate rows, then CREATE UNIQUE INDEX ON staging.product_events_raw_YYYYMMDD (event_id)";
        lines.bad("table partitions", format!("without a unique index, can receive duplicate rows: {without}"), fix);
    } else {
        lines.good("table partitions", format!("{all}, each with a unique index; a run creates further ones"));
    }
    if let Some(default) = row.get::<_, Option<String>>(2) {
        let found = format!(
            "{default}: its rows keep the table partitions of their days from being created, and retention is refused"
        );
        let fix = format!("ALTER TABLE staging.product_events_raw DETACH PARTITION {default}");
        lines.warn("DEFAULT partition", found, fix);
    }
    Ok(())
}

async fn snapshots(client: &Client, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let found = old_snapshots::find(client).await?;
    for one in &found {
        let text =
            format!("{} {} holds one for {}: updates of the offsets become slower", one.kind(), one.name(), one.age());
        lines.warn("old snapshots", text, one.remedy());
    }
    if found.is_empty() {
        lines.good("old snapshots", "none");
    }
    Ok(())
}

async fn server_settings(client: &Client, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
        (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout')";
    let row = client.query_one(sql, &[]).await?;
    if row.get::<_, bool>(0) && row.get::<_, bool>(1) {
        lines.good("fsync and full_page_writes", "on");
    } else {
        let fix = "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();";
        lines.warn("fsync and full_page_writes", "off: a power failure may corrupt the database", fix);
    }
    let millis: i64 = row.get(2);
    if millis > 0 && millis < LONGEST_STATEMENT_MILLIS {
        let found = format!("{millis} ms is too short: it cancels statements that are slow but not stuck");
        lines.warn("statement_timeout", found, "ALTER ROLE … SET statement_timeout = '2min', or 0 to disable it");
    }
    Ok(())
}

async fn connections(client: &Client, writers: usize, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let sql =
        "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        (SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = session_user),
        (SELECT count(*) FROM pg_stat_activity WHERE usename = session_user)";
    let row = client.query_one(sql, &[]).await?;
    let (server, limit, used): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let free = if limit >= 0 { server.min(limit - used) } else { server };
    // One session for each writer, and one for the offsets.
    let needed = i64::try_from(writers).unwrap_or(i64::MAX).saturating_add(1);
    if free < needed {
        let fix = "raise max_connections or the role's CONNECTION LIMIT, or lower --writers";
        lines.bad("free connections", format!("{free}, a run needs {needed}"), fix);
    } else {
        lines.good("free connections", format!("{free}, a run needs {needed}"));
    }
    Ok(())
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
