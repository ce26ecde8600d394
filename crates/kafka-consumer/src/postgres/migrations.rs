//! Applies the embedded scripts of `db_table_scripts` to the warehouse, in order and once each.

use anyhow::{Context, bail};
use pipeline_runtime::exit::Failure;
use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

mod scripts {
    include!(concat!(env!("OUT_DIR"), "/scripts.rs"));
}

/// Table of the applied scripts.
const HISTORY: &str = "public.event_pipeline_schema_history";

/// Handling of pending scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Apply them.
    Apply,
    /// Fail.
    Refuse,
}

/// A script that was applied to the warehouse.
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

/// Applies the pending scripts and returns their names.
///
/// Fails if scripts are pending and either `pending` is [`Pending::Refuse`] or the role may not create schemas. Fails
/// if a script was changed after it was applied.
pub(crate) async fn bring_up_to_date(client: &mut Client, pending: Pending) -> Result<Vec<String>, Failure> {
    let scripts = embedded()?;
    let missing = missing(&scripts, &applied(client).await?)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if pending == Pending::Refuse || !may_change_the_schema(client).await? {
        return Err(Failure::Failed(anyhow::anyhow!(
            "cannot use the warehouse: it lacks {}; run 'kafka-consumer migrate' as the owner of the schemas",
            missing.join(", ")
        )));
    }
    lock(client).await?;
    let applied = run(client, &scripts).await;
    client.batch_execute("SELECT pg_advisory_unlock_all()").await.context("cannot release the migration lock")?;
    applied
}

/// Returns the names of the pending scripts. Fails if a script was changed after it was applied.
pub(crate) async fn pending(client: &Client) -> anyhow::Result<Vec<String>> {
    missing(&embedded()?, &applied(client).await?)
}

/// Returns true if the role may create schemas. The writer's role, which only reads and writes rows, may not.
async fn may_change_the_schema(client: &Client) -> anyhow::Result<bool> {
    let asked = "SELECT has_database_privilege(current_database(), 'CREATE')";
    Ok(client.query_one(asked, &[]).await.context("cannot read the privileges on the warehouse")?.get(0))
}

fn embedded() -> anyhow::Result<Vec<Migration>> {
    let parse = |(name, sql): &(&str, &str)| {
        Migration::unapplied(name, sql).with_context(|| format!("cannot read migration {name}"))
    };
    scripts::SCRIPTS.iter().map(parse).collect()
}

/// Takes the lock of the migrations. A second program waits up to `lock_timeout` and then has no script to apply.
async fn lock(client: &Client) -> anyhow::Result<()> {
    client
        .batch_execute("SELECT pg_advisory_lock(hashtextextended('event-pipeline: migrations', 0))")
        .await
        .context("cannot lock the migrations: another program is applying them; try again later")
}

async fn run(client: &mut Client, scripts: &[Migration]) -> Result<Vec<String>, Failure> {
    let mut runner = Runner::new(scripts).set_abort_missing(false);
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(client).await.map_err(|error| {
        let text = chain(&error);
        let hint = if text.contains("permission denied") {
            "; run 'kafka-consumer migrate' as the owner of the schemas, then 'kafka-consumer run --no-migrate'"
        } else {
            ""
        };
        anyhow::anyhow!("cannot apply a migration: {text}{hint}")
    })?;
    Ok(report.applied_migrations().iter().map(file_name).collect())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

async fn applied(client: &Client) -> anyhow::Result<Vec<Applied>> {
    let rows = match client.query(&format!("SELECT version, name, checksum FROM {HISTORY} ORDER BY version"), &[]).await
    {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {HISTORY}"))?,
    };
    Ok(rows.iter().map(|row| Applied { version: row.get(0), name: row.get(1), checksum: row.get(2) }).collect())
}

/// Returns the name of a script's file, without its extension.
fn file_name(script: &Migration) -> String {
    format!("V{:03}__{}", script.version(), script.name())
}

/// Returns the names of the scripts that the warehouse lacks.
///
/// Fails if an applied script differs from the embedded one. An applied script that this program does not have is only
/// logged: the warehouse may be newer than the program.
fn missing(scripts: &[Migration], applied: &[Applied]) -> anyhow::Result<Vec<String>> {
    for one in applied {
        match scripts.iter().find(|script| script.version() == one.version) {
            Some(script) if script.checksum().to_string() != one.checksum => bail!(
                "migration V{:03}__{} was changed after it was applied; restore it, and put the change into a new one",
                one.version,
                one.name
            ),
            Some(_) => {}
            None => tracing::warn!(
                version = one.version,
                name = one.name,
                "unknown migration applied, warehouse newer than this program"
            ),
        }
    }
    let has = |script: &&Migration| !applied.iter().any(|one| one.version == script.version());
    Ok(scripts.iter().filter(has).map(file_name).collect())
}
