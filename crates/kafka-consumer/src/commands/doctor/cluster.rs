//! Checks a Citus cluster: distribution of the table, workers, versions, logins, settings and transactions in doubt.

use tokio_postgres::{Client, Error};

use crate::commands::doctor::finding::Findings;
use crate::postgres::cluster::{self, WorkerAnswer};

const SESSION: &str =
    "SELECT pipeline.is_distributed(), (SELECT groupid = 0 FROM pg_dist_local_group), extversion::text,
        current_setting('citus.multi_shard_modify_mode'), current_setting('citus.enable_deadlock_prevention'),
        (SELECT setting::bigint FROM pg_settings WHERE name = 'citus.recover_2pc_interval'),
        (SELECT rolname::text FROM pg_roles JOIN pg_class ON pg_roles.oid = relowner
         WHERE pg_class.oid = 'staging.product_events_raw'::regclass AND NOT rolcanlogin)
    FROM pg_extension WHERE extname = 'citus'";

const TABLE: &str = "SELECT column_to_column_name(logicalrelid, partkey)::text,
        (SELECT count(*) FROM pg_dist_shard AS shard WHERE shard.logicalrelid = part.logicalrelid),
        (SELECT count(DISTINCT groupid) FROM pg_dist_shard AS shard JOIN pg_dist_placement USING (shardid)
         WHERE shard.logicalrelid = part.logicalrelid)
    FROM pg_dist_partition AS part WHERE logicalrelid = 'staging.product_events_raw'::regclass";

/// Selects the version of Citus and the room for prepared transactions.
const WORKER: &str = "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'citus') || ' '
    || current_setting('max_prepared_transactions')";

/// Selects the transactions that have been prepared for more than a minute.
const IN_DOUBT: &str = "SELECT coalesce(string_agg(gid, ' '), '') FROM pg_prepared_xacts
    WHERE database = current_database() AND starts_with(gid, 'citus_') AND prepared < now() - interval '60 seconds'";

/// Longest interval of Citus' recovery that is not worth a warning, in milliseconds: its default, a minute.
const RECOVERY_MILLIS: i64 = 60_000;

/// Adds the findings. Adds none to a server without Citus.
pub(crate) async fn examine(client: &Client, writers: usize, lines: &mut Findings) -> Result<(), Error> {
    if !cluster::has_citus(client).await? {
        return Ok(());
    }
    let row = client.query_one(SESSION, &[]).await?;
    let version: String = row.get(2);
    if !row.get::<_, bool>(0) {
        lines.good("citus", format!("{version}, the table is not distributed"));
        return Ok(());
    }
    if row.get::<_, bool>(1) {
        lines.good("citus", format!("{version}, connected to the coordinator"));
    } else {
        let fix = "set the coordinator's address in --database-url";
        lines.bad("citus", format!("{version}, connected to a worker"), fix);
    }
    distribution(client, lines).await?;
    if let Some(owner) = row.get::<_, Option<String>>(6) {
        let found =
            format!("{owner}, the table's owner, cannot log in to the workers, so no table partition is created");
        lines.bad("owner", found, format!("ALTER ROLE \"{owner}\" LOGIN"));
    }
    let [mode, prevention] = [row.get::<_, String>(3), row.get::<_, String>(4)];
    if mode == "sequential" && prevention == "off" {
        lines.good("session settings", "sequential writes, as the program sets them");
    } else {
        let found = format!("multi_shard_modify_mode is {mode}, enable_deadlock_prevention is {prevention}");
        lines.warn("session settings", found, "allow the role to set citus.* in its sessions");
    }
    recovery(row.get(5), lines);
    workers(client, &version, writers, lines).await?;
    in_doubt(client, lines).await
}

async fn distribution(client: &Client, lines: &mut Findings) -> Result<(), Error> {
    let row = client.query_one(TABLE, &[]).await?;
    let column: Option<String> = row.get(0);
    let (shards, servers): (i64, i64) = (row.get(1), row.get(2));
    match column.as_deref() {
        Some("account_id") => {
            lines.good("distribution", format!("by account_id over {shards} shards on {servers} servers"));
        }
        other => {
            let found = format!("by {}, not by account_id", other.unwrap_or("no column"));
            let fix = "SELECT undistribute_table('staging.product_events_raw'), then run 'kafka-consumer distribute'";
            lines.bad("distribution", found, fix);
        }
    }
    Ok(())
}

/// Judges the interval in milliseconds at which Citus resolves prepared transactions; a negative one disables it.
fn recovery(millis: Option<i64>, lines: &mut Findings) {
    let fix = "ALTER SYSTEM SET citus.recover_2pc_interval = '5s'; SELECT pg_reload_conf();";
    match millis {
        Some(millis) if millis < 0 => {
            lines.bad("recovery interval", "disabled: rows of transactions in doubt stay invisible", fix);
        }
        Some(millis) if millis >= RECOVERY_MILLIS => {
            let found = format!("{} s: rows of transactions in doubt are invisible as long", millis / 1_000);
            lines.warn("recovery interval", found, fix);
        }
        Some(millis) => lines.good("recovery interval", format!("{millis} ms")),
        None => {}
    }
}

async fn workers(client: &Client, version: &str, writers: usize, lines: &mut Findings) -> Result<(), Error> {
    let answers = cluster::on_workers(client, WORKER).await?;
    let mut all_good = true;
    for WorkerAnswer { worker, answer } in &answers {
        let result = match answer {
            Ok(result) => result,
            Err(refusal) => {
                let fix = "start the worker, create the role there, and allow its login in the worker's pg_hba.conf";
                lines.bad("worker", format!("{worker} refuses this role: {refusal}"), fix);
                all_good = false;
                continue;
            }
        };
        let (extension, room) = result.split_once(' ').unwrap_or((result, ""));
        if extension != version {
            let found = format!("{worker} has Citus {extension}, the coordinator {version}");
            lines.bad("worker", found, "install one version on all servers, and run ALTER EXTENSION citus UPDATE");
            all_good = false;
        }
        if room.parse::<usize>().is_ok_and(|room| room < 2 * writers) {
            let found = format!("{worker} has room for {room} prepared transactions, {writers} writers need more");
            lines.bad("worker", found, "raise max_prepared_transactions on the worker, and restart it");
            all_good = false;
        }
    }
    if all_good {
        lines.good("workers", format!("{}, all answer and have Citus {version}", answers.len()));
    }
    Ok(())
}

async fn in_doubt(client: &Client, lines: &mut Findings) -> Result<(), Error> {
    let mut found = Vec::new();
    for WorkerAnswer { worker, answer } in cluster::on_workers(client, IN_DOUBT).await? {
        let transactions = answer.unwrap_or_default();
        found.extend(transactions.split_ascii_whitespace().map(|gid| format!("{gid} on {worker}")));
    }
    let daemon = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE application_name = 'Citus Maintenance Daemon' AND datname = current_database())";
    let has_daemon: bool = client.query_one(daemon, &[]).await?.get(0);
    if !has_daemon {
        let found = "none runs for this database, so transactions in doubt are not resolved";
        lines.bad("maintenance daemon", found, "raise max_worker_processes on the coordinator, and restart it");
    }
    if found.is_empty() {
        lines.good("transactions in doubt", "none");
    } else {
        let fix = "check that the coordinator reaches the workers; Citus then resolves them";
        lines.warn("transactions in doubt", found.join(", "), fix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Severity;

    #[test]
    fn a_long_recovery_interval_is_a_warning_and_none_is_bad() {
        for (millis, severity) in
            [(5_000, Severity::Good), (60_000, Severity::Warning), (-1, Severity::Bad), (59_999, Severity::Good)]
        {
            let mut lines = Findings::of("citus");
            recovery(Some(millis), &mut lines);
            assert_eq!(lines.lines[0].severity, severity, "{millis}");
        }
    }
}
