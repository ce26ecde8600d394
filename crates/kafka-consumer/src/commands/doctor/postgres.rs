//! Checks PostgreSQL: session, TLS, migrations, privileges, table partitions, settings, free connections and clock.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::{Client, Row};

use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::{Finding, Findings};
use crate::postgres::{self, describe, migrations};

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
    let client = match postgres::connect_at_start(&settings.target.named("event-pipeline doctor")).await {
        Ok(client) => client,
        Err(error) => {
            let mend = "start it, or name another by --database-url; for users and TLS see docs/security.md";
            lines.bad("open a session", format!("{error:#}"), mend);
            return Warehouse { lines: lines.lines, ..Warehouse::default() };
        }
    };
    let mut warehouse = Warehouse::default();
    if let Err(error) = ask(&client, settings, &mut lines, &mut warehouse).await {
        lines.bad("ask about the warehouse", describe(&error), "see that the role may connect to this database");
    }
    warehouse.lines = lines.lines;
    warehouse
}

const SESSION: &str = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), current_user::text,
    current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),
    extract(epoch FROM clock_timestamp())::double precision";

async fn ask(
    client: &Client,
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
            lines.good("compare the scripts", "the warehouse has all of them");
            rights(client, &role, lines).await?;
            partitions(client, lines).await?;
            let sql =
                "SELECT partition, next_offset FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2";
            let rows = client.query(sql, &[&settings.group_topic.group, &settings.group_topic.topic]).await?;
            warehouse.offsets = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        }
        Ok(missing) => lines.bad(
            "compare the scripts",
            format!("the warehouse lacks {}", missing.join(", ")),
            "`kafka-consumer migrate` as the owner; a run applies them too where its role may",
        ),
        Err(error) => lines.bad("compare the scripts", format!("{error:#}"), "see `kafka-consumer migrate`"),
    }
    server_settings(client, lines).await?;
    connections(client, settings.writers, lines).await
}

fn check_session(session: &Row, settings: &DoctorConfig, lines: &mut Findings) {
    let (number, version): (i32, String) = (session.get(0), session.get(1));
    lines.good("open a session", format!("{} as {}", settings.target, session.get::<_, String>(3)));
    if number < OLDEST_VERSION {
        lines.bad("read the version", version, "PostgreSQL 15 or newer is needed");
    } else {
        lines.good("read the version", version);
    }
    if session.get::<_, bool>(4) || session.get::<_, bool>(5) {
        let mend =
            "name the primary (target_session_attrs=read-write), and no default_transaction_read_only for the role";
        lines.bad("write", "the session can only read: a standby, or a role that is set so", mend);
    }
    match (session.get::<_, bool>(2), settings.target.is_local()) {
        (true, _) => lines.good("read the TLS of the session", "it is encrypted"),
        (false, true) => lines.good("read the TLS of the session", "none, within this machine"),
        (false, false) => lines.warn(
            "read the TLS of the session",
            "none: whoever is on the way can read password and data",
            "sslmode=verify-full in --database-url (docs/security.md)",
        ),
    }
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

async fn rights(client: &Client, role: &str, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    // Without USAGE on the schema, `has_table_privilege` is an error.
    let schemas = "SELECT has_schema_privilege('staging', 'USAGE') AND has_schema_privilege('pipeline', 'USAGE')";
    let missing = if client.query_one(schemas, &[]).await?.get(0) {
        client.query(RIGHTS, &[]).await?.iter().map(|row| row.get(0)).collect()
    } else {
        vec!["USAGE on the schemas staging and pipeline".to_owned()]
    };
    if missing.is_empty() {
        lines.good("look at the role's rights", format!("{role} may do what a run needs"));
    } else {
        let found = format!("{role} lacks {}", missing.join(", "));
        lines.bad("look at the role's rights", found, format!("GRANT pipeline_writer TO {role}; (docs/security.md)"));
    }
    Ok(())
}

async fn partitions(client: &Client, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
            SELECT FROM pg_index WHERE indrelid = inhrelid AND indisunique AND indisvalid))
        FROM pg_inherits WHERE inhparent = 'staging.product_events_raw'::regclass";
    let row = client.query_one(sql, &[]).await?;
    let (all, without): (i64, i64) = (row.get(0), row.get(1));
    if without > 0 {
        let mend =
            "CREATE UNIQUE INDEX ON staging.product_events_raw_YYYYMMDD (event_id) for each; remove doubled rows first";
        lines.bad(
            "look at the days' partitions",
            format!("{without} of {all} have no unique index: rows could double"),
            mend,
        );
    } else {
        lines.good(
            "look at the days' partitions",
            format!("{all}, each with its unique index; a run makes the next ones"),
        );
    }
    Ok(())
}

async fn server_settings(client: &Client, lines: &mut Findings) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
        (SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout')";
    let row = client.query_one(sql, &[]).await?;
    if row.get::<_, bool>(0) && row.get::<_, bool>(1) {
        lines.good("read fsync and full_page_writes", "on");
    } else {
        let mend = "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();";
        lines.warn("read fsync and full_page_writes", "off: a power cut may destroy the database", mend);
    }
    let millis: i64 = row.get(2);
    if millis > 0 && millis < LONGEST_STATEMENT_MILLIS {
        let found = format!("statement_timeout = {millis} ms ends what is slow, not stuck");
        lines.warn("read the time limit of statements", found, "ALTER ROLE … SET statement_timeout = '2min', or 0");
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
        let mend = "raise max_connections, or the role's CONNECTION LIMIT, or give a run fewer --writers";
        lines.bad("count the free connections", format!("{free}, a run needs {needed}"), mend);
    } else {
        lines.good("count the free connections", format!("{free}, a run needs {needed}"));
    }
    Ok(())
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
