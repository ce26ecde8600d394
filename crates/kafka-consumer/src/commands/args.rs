//! Flags shared by several subcommands.

use clap::Args;
use event_model::Window;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::not_empty;
use pipeline_runtime::units::TimeSpan;
use tokio_postgres::Client;

use crate::kafka::group_topic::GroupTopic;
use crate::postgres::migrations::{self, Pending};
use crate::postgres::{self, Conninfo};

#[derive(Args, Clone)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct DatabaseArgs {
    /// PostgreSQL connection string: a URI or keyword=value pairs; a service file and PG* variables supply settings
    /// that it omits [default: the local stack's warehouse]
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
}

#[derive(Args, Clone)]
pub(crate) struct GroupArgs {
    /// Consumer group that owns the offsets, in PostgreSQL and in Kafka
    #[arg(long, value_name = "GROUP", default_value = "kafka-consumer", value_parser = not_empty)]
    pub(crate) group_id: String,
}

/// Group and topic, for commands that query only PostgreSQL.
#[derive(Args, Clone)]
pub(crate) struct GroupTopicArgs {
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Topic of the events
    #[arg(long, default_value = "product-events", value_parser = not_empty)]
    pub(crate) topic: String,
}

/// Accepted range of event timestamps, relative to their records.
#[derive(Args, Clone)]
pub(crate) struct WindowArgs {
    /// Maximum age of an event relative to its record's timestamp, or to the present if it has none
    #[arg(long, value_name = "DURATION", default_value = "400d", allow_hyphen_values = true)]
    pub(crate) max_event_age: TimeSpan,
    /// Maximum time by which an event may be later than its record's timestamp or the present, whichever is earlier
    #[arg(long, value_name = "DURATION", default_value = "1d", allow_hyphen_values = true)]
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
