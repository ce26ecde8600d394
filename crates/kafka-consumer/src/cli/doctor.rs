//! `kafka-consumer doctor`.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;

use super::{DatabaseArgs, GroupArgs, unless_closed};
use crate::doctor::{self, Settings, Severity};
use crate::kafka_client::client_config;
use crate::memory::Memory;
use crate::offsets::Claim;

#[derive(Args, Clone)]
pub(super) struct DoctorArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Leave the lake out: a consumer that only runs does not need it
    #[arg(long, conflicts_with = "lake", help_heading = "Lake")]
    no_lake: bool,
    #[command(flatten)]
    lake: LakeArgs,
    /// Sessions of PostgreSQL that a run would open
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    writers: u8,
    /// Memory that a run may take
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    memory_limit: Memory,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl DoctorArgs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let settings = Settings {
            client: client_config(&self.kafka, &self.group.group_id)?,
            claim: Claim { group: self.group.group_id, topic: self.kafka.topic.clone() },
            kafka: self.kafka,
            target: self.database.target()?,
            writers: usize::from(self.writers),
            memory: self.memory_limit,
            lake: (!self.no_lake).then_some(self.lake),
        };
        let lines = Box::pin(doctor::run(&settings)).await;
        let text = if self.json {
            serde_json::to_string_pretty(&lines).context("the findings cannot be written as JSON")?
        } else {
            lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        unless_closed(writeln!(io::stdout(), "{text}").map_err(Into::into))?;
        match lines.iter().filter(|line| line.severity == Severity::Bad).count() {
            0 => Ok(()),
            1 => Err(Failure::Difference("one finding would stop the pipeline".to_owned())),
            bad => Err(Failure::Difference(format!("{bad} findings would stop the pipeline"))),
        }
    }
}
