//! `kafka-consumer reconcile`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;
use lake::{Lake, Manifest, RunId};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::{LakeArgs, with_hint};
use pipeline_runtime::output::unless_closed;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::telemetry::LogArgs;
use reconcile::{ReconcileConfig, Stores};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::commands::args::{DatabaseArgs, GroupArgs};
use crate::kafka::client::client_config;
use crate::postgres::{self, cluster, describe};

/// Number of sessions that read the table in parallel.
const SESSIONS: usize = 2;

#[derive(Args, Clone)]
pub(crate) struct ReconcileArgs {
    /// Run to compare, by its manifest in the lake; this or --manifest is required
    #[arg(long, value_name = "RUN", required_unless_present = "manifest", conflicts_with = "manifest")]
    run: Option<RunId>,
    /// Run to compare, by a manifest file
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Compare only these stores; repeatable, or separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STORE")]
    only: Vec<Only>,
    /// Search the whole table for events of the run, not only the run's hours; reads all rows
    #[arg(long)]
    whole_table: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Topic
    Kafka,
    /// Raw files and quarantine
    Lake,
    /// Rows, dead letters and offsets
    Table,
}

impl ReconcileArgs {
    pub(crate) async fn run(self, log: &LogArgs) -> Result<(), Failure> {
        let asked = |store| self.only.is_empty() || self.only.contains(&store);
        let stores = Stores { kafka: asked(Only::Kafka), lake: asked(Only::Lake), table: asked(Only::Table) };
        let from_file = self.manifest_file()?;
        let lake = if stores.lake || from_file.is_none() { Some(self.lake.open().await?) } else { None };
        let manifest = match from_file {
            Some(manifest) => manifest,
            None => self.manifest_in(lake.as_ref()).await?,
        };
        let stores = stores.filled_by(&manifest);
        let topic = manifest.kafka.as_ref().map_or_else(|| self.kafka.topic.clone(), |kafka| kafka.topic.clone());
        let kafka = client_config(&self.kafka, &self.group.group_id)?;
        let report = reconcile::run(ReconcileConfig {
            manifest,
            whole_table: self.whole_table,
            kafka: stores.kafka.then_some(kafka),
            topic,
            group: self.group.group_id.clone(),
            lake: lake.filter(|_| stores.lake),
            sessions: self.sessions(stores.table).await?,
        });
        let progress = Progress::elapsed(log.shows_progress(), "comparing the stores");
        let report = report.await?;
        drop(progress);
        let text = if self.json {
            serde_json::to_string_pretty(&report).context("cannot format the report as JSON")?
        } else {
            report.to_string()
        };
        unless_closed(writeln!(io::stdout(), "{text}").map_err(Into::into))?;
        if report.holds {
            return Ok(());
        }
        Err(Failure::Difference(format!(
            "run {} differs from its manifest; the report lists the differences",
            report.run
        )))
    }

    /// Opens the sessions that read the table. Their application name is not that of a consumer.
    async fn sessions(&self, table: bool) -> Result<Vec<Client>, Failure> {
        let target = self.database.target()?.named("event-pipeline reconcile");
        let sessions = (0..if table { SESSIONS } else { 0 }).map(|_| postgres::connect(&target));
        let sessions = try_join_all(sessions).await.map_err(anyhow::Error::from)?;
        if let Some(session) = sessions.first() {
            let visible = cluster::await_workers(session).await;
            // A warehouse of an older version lacks the function, and is not distributed.
            if let Err(error) = visible
                && error.code() != Some(&SqlState::UNDEFINED_FUNCTION)
            {
                return Err(anyhow!("cannot read the table: {}", describe(&error)).into());
            }
        }
        Ok(sessions)
    }

    fn manifest_file(&self) -> Result<Option<Manifest>, Failure> {
        let Some(path) = &self.manifest else { return Ok(None) };
        let name = path.display().to_string();
        let text = fs::read(path).with_context(|| format!("cannot read --manifest {name}"))?;
        Ok(Some(Manifest::from_json(&name, &text).map_err(with_hint)?))
    }

    async fn manifest_in(&self, lake: Option<&Lake>) -> Result<Manifest, Failure> {
        let (Some(lake), Some(run)) = (lake, &self.run) else {
            return Err(Failure::usage("no run selected; pass --run or --manifest"));
        };
        if let Some(manifest) = lake.manifest(run).await.map_err(with_hint)? {
            return Ok(manifest);
        }
        let draft = lake.draft(run).await.map_err(with_hint)?.is_some();
        let why = if draft {
            anyhow!("cannot compare run {run}: its manifest in {} is a draft; finish the run first", lake.url())
        } else {
            anyhow!("no manifest of run {run} in {}; correct --run or --lake", lake.url())
        };
        Err(why.into())
    }
}
