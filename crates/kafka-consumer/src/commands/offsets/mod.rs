//! `kafka-consumer offsets`.

mod set;
mod show;

pub(crate) use show::IS_RETIRED;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use clap::{Args, Subcommand};
use event_model::Timestamp;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::output::unless_closed;

use crate::commands::args::{DatabaseArgs, GroupArgs, GroupTopicArgs};
use crate::commands::offsets::set::SetTo;
use crate::ingest::offsets::resume::{DataLossPolicy, Resume};
use crate::kafka::client::{self, KafkaClient};
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::RecordLookup;
use crate::kafka::start_offset::StartOffset;

#[derive(Subcommand, Clone)]
pub(crate) enum OffsetsCommand {
    /// Show the next offsets of the group, and manual changes to them
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Move the group to other offsets; its consumers must be stopped
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
}

const SHOW_EXAMPLES: &str = "\
Examples:
  kafka-consumer offsets show
  kafka-consumer offsets show --group-id backfill --json";

const SET_EXAMPLES: &str = "\
Examples:
  kafka-consumer offsets set --to-latest --dry-run
  kafka-consumer offsets set --to-time 2026-11-22T00:00:00Z --reason reload
  kafka-consumer offsets set --to-offset 0:12000,3:9000 --reason 'skip a gap'";

#[derive(Args, Clone)]
pub(crate) struct ShowArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    group_topic: GroupTopicArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    to: ToArgs,
    /// Reason for the change, which is stored with it; required unless --dry-run is given
    #[arg(long, value_name = "TEXT", value_parser = reason, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Print the new offsets and the number of records skipped or reread, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Move the group to a topic that was deleted and recreated, or to another cluster; its former offsets are dropped
    #[arg(long)]
    allow_recreated_topic: bool,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
struct ToArgs {
    /// Move one partition to this next offset, such as 3:12000; repeatable, or separated by commas
    #[arg(long = "to-offset", value_name = "PARTITION:OFFSET", value_parser = place, value_delimiter = ',')]
    offsets: Vec<(i32, i64)>,
    /// Move to the first records with this timestamp or a later one, such as 2026-11-22T00:00:00Z
    #[arg(long = "to-time", value_name = "TIME")]
    time: Option<Timestamp>,
    /// Move to the oldest records in Kafka
    #[arg(long = "to-earliest")]
    earliest: bool,
    /// Move to the ends of the partitions, and skip unread records
    #[arg(long = "to-latest")]
    latest: bool,
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let numbers =
        text.split_once(':').and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    match numbers {
        Some((partition, offset)) if partition >= 0 && offset >= 0 => Ok((partition, offset)),
        _ => Err("expected PARTITION:OFFSET, such as 3:12000".to_owned()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("the reason must not be empty".to_owned()) } else { Ok(text.trim().to_owned()) }
}

impl OffsetsCommand {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => args.run().await,
            Self::Set(args) => args.run().await,
        }
    }
}

impl ShowArgs {
    async fn run(self) -> Result<(), Failure> {
        let client = self.database.connect_to_current("kafka-consumer offsets").await?;
        unless_closed(show::show(&client, &self.group_topic.group_topic(), self.json, &mut io::stdout()).await)
    }
}

impl ToArgs {
    fn set_to(&self) -> Result<SetTo, Failure> {
        let start = match (self.time, self.earliest) {
            (Some(time), _) => StartOffset::Time(time),
            (None, true) => StartOffset::Earliest,
            (None, false) if self.latest => StartOffset::Latest,
            (None, false) => {
                let offsets: BTreeMap<i32, i64> = self.offsets.iter().copied().collect();
                if offsets.len() < self.offsets.len() {
                    return Err(Failure::usage("--to-offset lists the same partition twice; give each partition once"));
                }
                return Ok(SetTo::Offsets(offsets));
            }
        };
        Ok(SetTo::All(start))
    }
}

impl SetArgs {
    async fn run(self) -> Result<(), Failure> {
        let to = self.to.set_to()?;
        let config = client::client_config(&self.kafka, &self.group.group_id)?;
        // The name must not be that of a consumer: a consumer that starts now ends other consumers' sessions that lock
        // its offsets.
        let mut client = self.database.connect_to_current("event-pipeline offsets").await?;
        let connection = self.kafka.connection();
        let resume = Resume {
            target: self.database.target()?,
            group_topic: GroupTopic { group: self.group.group_id.clone(), topic: self.kafka.topic.clone() },
            kafka: KafkaClient::new(&config, None, &connection)?,
            record_lookup: RecordLookup::new(&config, &self.kafka.topic, &connection),
            accept: DataLossPolicy { new_topic: self.allow_recreated_topic, ..DataLossPolicy::default() },
            start: StartOffset::Earliest,
            identity: Arc::default(),
        };
        let reason = self.reason.as_deref().filter(|_| !self.dry_run);
        let moved = set::set(&mut client, &resume, &to, reason).await?;
        let mut out = io::stdout();
        if self.dry_run {
            unless_closed(writeln!(out, "dry run, nothing changed; the offsets would move:").map_err(Into::into))?;
        }
        for one in moved {
            unless_closed(writeln!(out, "{one}").map_err(Into::into))?;
        }
        Ok(())
    }
}
