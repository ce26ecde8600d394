//! `kafka-consumer doctor`: checks dependencies, privileges and settings, and suggests fixes.

mod cluster;
mod config;
mod examination;
mod finding;
mod group;
mod kafka;
mod lake;
mod machine;
mod postgres;
mod rehearsal;

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use pipeline_runtime::output::unless_closed;

use crate::commands::args::{DatabaseArgs, GroupArgs};
use crate::commands::doctor::config::DoctorConfig;
use crate::commands::doctor::finding::Severity;
use crate::ingest::memory_budget::MemoryBudget;
use crate::kafka::client::client_config;
use crate::kafka::group_topic::GroupTopic;

#[derive(Args, Clone)]
pub(crate) struct DoctorArgs {
    /// Print the findings as a JSON array
    #[arg(long)]
    json: bool,
    /// Skip the lake, which only rebuild and reconcile need
    #[arg(long, conflicts_with = "lake", help_heading = "Lake")]
    no_lake: bool,
    #[command(flatten)]
    lake: LakeArgs,
    /// Number of parallel writers of the planned run, from 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, allow_hyphen_values = true, value_parser = pipeline_runtime::units::count_within::<u8>(1..=64))]
    writers: u8,
    /// Memory limit of the planned run, at least 128MiB
    #[arg(long, value_name = "BYTES", default_value = "256MiB", allow_hyphen_values = true)]
    memory_limit: MemoryBudget,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl DoctorArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let settings = DoctorConfig {
            client: client_config(&self.kafka, &self.group.group_id)?,
            group_topic: GroupTopic { group: self.group.group_id, topic: self.kafka.topic.clone() },
            kafka: self.kafka,
            target: self.database.target()?,
            writers: usize::from(self.writers),
            memory: self.memory_limit,
            lake: (!self.no_lake).then_some(self.lake),
        };
        let lines = Box::pin(examination::run(&settings)).await;
        let text = if self.json {
            serde_json::to_string_pretty(&lines).context("cannot format the findings as JSON")?
        } else {
            lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        unless_closed(writeln!(io::stdout(), "{text}").map_err(Into::into))?;
        match lines.iter().filter(|line| line.severity == Severity::Bad).count() {
            0 => Ok(()),
            1 => Err(Failure::Difference("1 finding stops the pipeline; apply its fix".to_owned())),
            bad => Err(Failure::Difference(format!("{bad} findings stop the pipeline; apply their fixes"))),
        }
    }
}
