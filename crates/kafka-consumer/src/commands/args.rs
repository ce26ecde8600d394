//! Flags shared by several subcommands.

use clap::Args;
use event_model::Window;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::units::TimeSpan;
use tokio_postgres::Client;

use crate::kafka::group_topic::GroupTopic;
use crate::postgres::migrations::{self, Pending};
use crate::postgres::{self, Conninfo};

#[derive(Args, Clone)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct DatabaseArgs {
    /// PostgreSQL connection string, a URI or keyword=value pairs; a service and PG* variables fill in the rest
    /// (default: the local stack's warehouse)
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
}

#[derive(Args, Clone)]
pub(crate) struct GroupArgs {
    /// The consumer group: whose offsets these are, in PostgreSQL and in Kafka
    #[arg(long, default_value = "kafka-consumer")]
    pub(crate) group_id: String,
}

/// The group and the topic, for what asks PostgreSQL alone.
#[derive(Args, Clone)]
pub(crate) struct GroupTopicArgs {
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// The topic of the events
    #[arg(long, default_value = "product-events")]
    pub(crate) topic: String,
}

/// How far events may lie from their records.
#[derive(Args, Clone)]
pub(crate) struct WindowArgs {
    /// Maximum age of an event before its record's timestamp, or before the present if it has none (400d, 36h, 90m)
    #[arg(long, value_name = "DURATION", default_value = "400d")]
    pub(crate) max_event_age: TimeSpan,
    /// Maximum time of an event after its record's timestamp, or after the present if that is earlier
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    pub(crate) max_event_skew: TimeSpan,
}

impl DatabaseArgs {
    pub(crate) fn target(&self) -> Result<Conninfo, Failure> {
        let source = if self.database_url.is_some() { "--database-url: " } else { "" };
        postgres::resolve(self.database_url.as_deref()).map_err(|error| Failure::usage(format!("{source}{error}")))
    }

    /// Connects to the warehouse. Fails if a migration is pending.
    pub(crate) async fn connect_to_current(&self, name: &str) -> Result<Client, Failure> {
        let mut client = postgres::connect_at_start(&self.target()?.named(name)).await?;
        migrations::bring_up_to_date(&mut client, Pending::Refuse).await?;
        Ok(client)
    }
}

impl GroupTopicArgs {
    pub(crate) fn group_topic(&self) -> GroupTopic {
        GroupTopic { group: self.group.group_id.clone(), topic: self.topic.clone() }
    }
}

impl WindowArgs {
    pub(crate) fn window(&self) -> Window {
        Window { past: self.max_event_age.get(), future: self.max_event_skew.get(), present: None }
    }
}
