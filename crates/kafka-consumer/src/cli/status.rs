//! `kafka-consumer status`.

use anyhow::Context as _;
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::output;

use super::{DatabaseArgs, GroupArgs};
use crate::offsets::Claim;
use crate::site::DEFAULT_ADDRESS;
use crate::status;

#[derive(Args, Clone)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// Print one JSON object: offsets, counts, seconds
    #[arg(long)]
    json: bool,
    /// Where the running consumer serves: it alone knows the latency. HOST:PORT or off
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    http_addr: HttpAddr,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl StatusArgs {
    /// Prints where the group stands.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let target = self.database.target()?.named("kafka-consumer status");
        let claim = Claim { group: self.group.group_id.clone(), topic: self.kafka.topic.clone() };
        let status = status::ask(&self.kafka, &target, claim, &self.http_addr).await?;
        if self.json {
            output::line(serde_json::to_string_pretty(&status).context("the status cannot be written as JSON")?)
        } else {
            output::print(status)
        }
    }
}
