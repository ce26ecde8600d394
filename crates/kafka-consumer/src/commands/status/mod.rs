//! `kafka-consumer status`.

mod latency;
mod report;
mod table;

use anyhow::Context as _;
use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::http::HttpAddr;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::output;

use crate::commands::args::{DatabaseArgs, GroupArgs};
use crate::kafka::group_topic::GroupTopic;
use crate::observability::endpoints::DEFAULT_ADDRESS;

#[derive(Args, Clone)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    group: GroupArgs,
    /// Print one JSON object; times are in seconds
    #[arg(long)]
    json: bool,
    /// Address of the running consumer, which reports the latency, as HOST:PORT; off omits the latency
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    http_addr: HttpAddr,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl StatusArgs {
    /// Prints the status of the group.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let target = self.database.target()?.named("kafka-consumer status");
        let group_topic = GroupTopic { group: self.group.group_id.clone(), topic: self.kafka.topic.clone() };
        let status = report::ask(&self.kafka, &target, group_topic, &self.http_addr).await?;
        if self.json {
            output::line(serde_json::to_string_pretty(&status).context("cannot format the status as JSON")?)
        } else {
            output::print(status)
        }
    }
}
