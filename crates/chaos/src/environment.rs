//! The servers, the proxies in front of them, and the commands of the pipeline's programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use local_stack::{Name, Proxy, Stack, program};
use tokio::runtime::Runtime;

use crate::plan::{Link, Who};
use crate::table;

/// Number of partitions of the first topic.
pub(crate) const PARTITIONS: i32 = 6;
pub(crate) const TOPIC: &str = "product-events";
pub(crate) const GROUP: &str = "kafka-consumer";
const FAULTS: &str =
    "invalid=0.5%,corrupt=0.2%,oversize=0.01%,duplicate=1%,late=1%,out-of-order=1%,hot-key=0.5%,burst=0.1%";
const USERS: &str = "
    CREATE ROLE warehouse_admin LOGIN PASSWORD 'warehouse_admin' IN ROLE pipeline_owner;
    CREATE ROLE event_writer LOGIN PASSWORD 'event_writer' IN ROLE pipeline_writer;
    ALTER ROLE warehouse_admin SET role = pipeline_owner";

/// Last stable offset and high watermark of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionEnd {
    pub(crate) stable: i64,
    pub(crate) high: i64,
}

/// The servers and proxies under test, and the folder of the programs.
pub(crate) struct Environment {
    pub(crate) stack: Stack,
    proxies: [Proxy; 4],
    programs: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) runtime: Runtime,
    rate: u32,
    seed: u64,
}

impl Environment {
    /// Starts the servers and creates the tables. `state` is the state folder of the generator.
    pub(crate) fn start(state: PathBuf, rate: u32, seed: u64) -> anyhow::Result<Self> {
        let programs = std::env::current_exe()?.parent().context("the executable has no folder")?.to_owned();
        for name in ["event-generator", "kafka-consumer"] {
            if !programs.join(name).is_file() {
                bail!("cannot find {}; run 'make chaos'", programs.join(name).display());
            }
        }
        let [to_kafka, from_kafka] = [Proxy::listen()?, Proxy::listen()?];
        let stack = Stack::ephemeral_behind_all(&[&to_kafka, &from_kafka])?;
        let proxies = [to_kafka, from_kafka, Proxy::to(stack.postgres.port())?, Proxy::to(stack.object_store.port())?];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let environment = Self { stack, proxies, programs, state, runtime, rate, seed };
        environment.ask(USERS)?;
        environment.ask(table::PREPARE)?;
        environment.create_topic(PARTITIONS)?;
        let migrated = environment.consumer("migrate", "warehouse_admin", false).output()?;
        if !migrated.status.success() {
            bail!("cannot migrate the database: {}", String::from_utf8_lossy(&migrated.stderr));
        }
        Ok(environment)
    }

    pub(crate) fn proxy(&self, link: Link) -> &Proxy {
        &self.proxies[link as usize]
    }

    /// Returns the command that starts or resumes a run, connected through the proxies.
    pub(crate) fn generator(&self, run: u32, resume: bool) -> Command {
        let mut command = self.command("event-generator");
        command.args(["run", "--run-id", &run_id(run), "--log-format", "json", "--http-addr", "off"]);
        command.args(["--bootstrap-servers", &self.address(Link::GeneratorKafka)]);
        if resume {
            command.arg("--resume");
        } else {
            let seed = self.seed.wrapping_add(u64::from(run)).to_string();
            command.args(["--rate", &format!("{}/s", self.rate), "--seed", &seed, "--fault", FAULTS]);
            command.args(["--topic", TOPIC, "--lake", &self.stack.lake_url()]);
        }
        command.env("EVENT_GENERATOR_STATE_DIR", &self.state);
        command.envs(self.stack.s3().variables());
        command.env("AWS_ENDPOINT_URL_S3", format!("http://{}", self.address(Link::GeneratorLake)));
        command
    }

    /// Returns the command of a consumer, connected through the proxies. Consumer 0 is a static member of the group.
    pub(crate) fn member(&self, number: usize) -> Command {
        let mut command = self.consumer("run", "event_writer", true);
        command.args(["--log-format", "json", "--http-addr", "off"]);
        if number == 0 {
            command.args(["--group-instance-id", "first"]);
        }
        command
    }

    /// Returns a command of the consumer, connected through the proxies if `behind` is set.
    pub(crate) fn consumer(&self, name: &str, user: &str, behind: bool) -> Command {
        let mut command = self.command("kafka-consumer");
        let direct = format!("127.0.0.1:{}", self.stack.postgres.port());
        let mut url = self.stack.database_url().replacen("admin:admin@", &format!("{user}:{user}@"), 1);
        command.arg(name);
        if behind {
            url = url.replace(&direct, &self.address(Link::ConsumerPostgres));
            command.args(["--bootstrap-servers", &self.address(Link::ConsumerKafka), "--topic", TOPIC]);
        } else if name != "migrate" {
            command.args(["--bootstrap-servers", &self.stack.bootstrap_servers(), "--topic", TOPIC]);
        }
        command.args(["--database-url", &url]);
        command
    }

    /// Returns a consumer command that needs PostgreSQL only, as the writer.
    pub(crate) fn warehouse(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("kafka-consumer");
        let url = self.stack.database_url().replacen("admin:admin@", "event_writer:event_writer@", 1);
        command.args(arguments).args(["--database-url", &url]);
        command
    }

    /// Returns the command that reconciles a run.
    pub(crate) fn reconcile(&self, run: u32) -> Command {
        let mut command = self.consumer("reconcile", "event_writer", false);
        command.args(["--run", &run_id(run), "--json", "--whole-table", "--lake", &self.stack.lake_url()]);
        command.envs(self.stack.s3().variables());
        command
    }

    fn address(&self, link: Link) -> String {
        format!("127.0.0.1:{}", self.proxy(link).port())
    }

    fn command(&self, name: &str) -> Command {
        program::command(&self.programs.join(name))
    }

    /// Returns the process ID of a server, if it runs.
    pub(crate) fn pid(&self, name: Name) -> Option<u32> {
        match name {
            Name::Kafka => self.stack.kafka.pid(),
            Name::Postgres => self.stack.postgres.pid(),
            Name::S3 => self.stack.object_store.pid(),
        }
    }

    pub(crate) fn kill(&mut self, name: Name) -> anyhow::Result<()> {
        Ok(match name {
            Name::Kafka => self.stack.kafka.kill(),
            Name::Postgres => self.stack.postgres.kill(),
            Name::S3 => self.stack.object_store.kill(),
        }?)
    }

    pub(crate) fn restart(&mut self, name: Name) -> anyhow::Result<()> {
        Ok(match name {
            Name::Kafka => self.stack.kafka.restart(),
            Name::Postgres => self.stack.postgres.restart(),
            Name::S3 => self.stack.object_store.restart(),
        }?)
    }

    /// Terminates the PostgreSQL sessions of all consumers and returns their number.
    pub(crate) fn end_sessions(&self) -> anyhow::Result<usize> {
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kafka-consumer%'";
        self.ask(sql)
    }

    /// Runs statements as the superuser and returns the number of result rows.
    pub(crate) fn ask(&self, sql: &str) -> anyhow::Result<usize> {
        let answers = self.runtime.block_on(async {
            let client = self.connect().await?;
            client.simple_query(sql).await
        })?;
        Ok(answers.iter().filter(|one| matches!(one, tokio_postgres::SimpleQueryMessage::Row(_))).count())
    }

    pub(crate) async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let url = self.stack.database_url();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Returns the lag of the consumer group in records.
    pub(crate) fn behind(&self) -> anyhow::Result<i64> {
        let sql = "SELECT partition, next_offset FROM pipeline.consumer_offsets
            WHERE consumer_group = $1 AND topic = $2";
        let rows = self.runtime.block_on(async { self.connect().await?.query(sql, &[&GROUP, &TOPIC]).await })?;
        let next: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        // An earlier topic may have had more partitions.
        let behind = |(partition, end): (&i32, &PartitionEnd)| end.high - next.get(partition).copied().unwrap_or(0);
        Ok(self.ends()?.iter().map(behind).sum())
    }

    /// Maximum lag in records of a healthy pipeline.
    pub(crate) fn in_flight(&self) -> i64 {
        5 * i64::from(self.rate)
    }

    /// Returns the state folder of a run.
    pub(crate) fn state_of(&self, run: u32) -> PathBuf {
        Path::new(&self.state).join(run_id(run))
    }

    /// Returns true if the end of an unfinished run is decided.
    pub(crate) fn is_run_end_decided(&self, run: u32) -> anyhow::Result<bool> {
        let path = self.state_of(run).join("state.json");
        fs::read(&path)
            .map_err(anyhow::Error::from)
            .and_then(|state| has_run_end(&state))
            .with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Returns true if a saved state of `event-generator` contains the run's end.
///
/// A state without that field is an error: its format has changed.
fn has_run_end(state: &[u8]) -> anyhow::Result<bool> {
    let state: serde_json::Value = serde_json::from_slice(state)?;
    let run_end = state.get("run_end").context("field run_end is missing")?;
    Ok(!run_end.is_null())
}

pub(crate) fn run_id(run: u32) -> String {
    format!("chaos-{run}")
}

/// Servers and connections that a program depends on.
pub(crate) fn needs(who: Who) -> ([Name; 2], [Link; 2]) {
    match who {
        Who::Generator => ([Name::Kafka, Name::S3], [Link::GeneratorKafka, Link::GeneratorLake]),
        Who::Member(_) => ([Name::Kafka, Name::Postgres], [Link::ConsumerKafka, Link::ConsumerPostgres]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_format_is_an_error() {
        assert!(!has_run_end(br#"{"run_end": null}"#).unwrap());
        assert!(has_run_end(br#"{"run_end": {"next_index": 7}}"#).unwrap());
        assert!(has_run_end(br#"{"sealed": {"end": 7}}"#).is_err());
    }
}
