//! `kafka-consumer distribute`: distributes the table over the workers of a Citus cluster.

mod distribution;
mod obstacles;

use clap::Args;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::output;
use pipeline_runtime::units::{count_within, grouped};

use crate::commands::args::DatabaseArgs;
use crate::commands::distribute::distribution::Distribution;

#[derive(Args, Clone)]
pub(crate) struct DistributeArgs {
    /// Number of shards, from 1 to 64000: two to four times the processors of all workers
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count_within::<u16>(1..=64_000))]
    shards: u16,
    /// Check the cluster, print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

const TABLE: &str = "staging.product_events_raw";

impl DistributeArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = self.database.connect_to_current("kafka-consumer distribute").await?;
        let workers = obstacles::check(&client).await?;
        let shards = i32::from(self.shards);
        if let Some(existing) = distribution::find(&client).await? {
            existing.expect(shards)?;
            return output::line(format_args!("nothing to do: {TABLE} is distributed {existing}"));
        }
        let extent = distribution::extent(&client).await?;
        let wanted = Distribution { column: distribution::COLUMN.to_owned(), shards };
        if self.dry_run {
            return output::line(format_args!(
                "dry run, nothing changed: {TABLE} would be distributed {wanted} on {workers} workers\n  \
                 it has about {} rows in {} table partitions; consumers would wait until they are moved",
                grouped(extent.rows.unsigned_abs()),
                extent.partitions
            ));
        }
        distribution::distribute(&mut client, shards).await?;
        output::line(format_args!(
            "{TABLE} is distributed {wanted} on {workers} workers\nrestart the consumers, whose sessions still look up \
             rows on all shards"
        ))
    }
}
