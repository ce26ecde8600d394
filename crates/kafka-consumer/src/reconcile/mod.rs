//! Every event of a run accounted for: what must be, against what the stores have.
//!
//! What is read of each store is summed up by hour, numbers and sums of hashes, and compared with the manifest's. Where this
//! version makes the same events from the manifest's settings, each event that a store has is compared with the one that
//! they give for its index as well, so that nothing rests on what the programs counted. A run that another version made is
//! judged by the sums, and its stores by one another. Which indices a store has is kept as one bit each.

mod findings;
mod hours;
mod lake_files;
mod letters;
mod marks;
mod report;
mod store;
mod subject;
mod table;
mod topic;

use std::sync::Arc;

use anyhow::Context;
use lake::{Lake, Manifest};
use rdkafka::config::ClientConfig;
use tokio::task;

use crate::offsets::Claim;
use crate::postgres::{self, Target};
pub use report::{Check, Report};
use subject::Subject;
use table::Table;

/// The stores that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stores {
    /// The topic.
    pub kafka: bool,
    /// The raw files and the quarantine.
    pub lake: bool,
    /// The table and the dead letters.
    pub table: bool,
}

/// What is reconciled with what.
pub struct Settings {
    /// The finished run.
    pub manifest: Manifest,
    /// Which stores are looked at; those that the run did not fill are left out.
    pub stores: Stores,
    /// Look for the run's ids in all of the table, not only in the hours of its events.
    pub whole_table: bool,
    /// Kafka.
    pub kafka: ClientConfig,
    /// The topic that the run went to, and the group that brought it into the table.
    pub claim: Claim,
    /// The lake; none where it is not looked at.
    pub lake: Option<Lake>,
    /// The warehouse.
    pub target: Target,
}

/// Looks at everything, and says where it differs.
pub async fn run(settings: Settings) -> anyhow::Result<Report> {
    let Settings { manifest, stores, whole_table, kafka, claim, lake, target } = settings;
    let subject = task::spawn_blocking(move || Subject::new(manifest)).await??;
    let subject = Arc::new(subject);
    let stores = Stores {
        kafka: stores.kafka && subject.manifest.kafka.is_some(),
        lake: stores.lake && lake.is_some() && subject.manifest.lake.is_some(),
        table: stores.table && subject.manifest.kafka.is_some(),
    };

    let table = if stores.table { Some(Table::open(&target, &claim).await?) } else { None };
    let letters = match &table {
        Some(table) => Some(Arc::new(table.letters().await?)),
        None => None,
    };
    let scan = async {
        let (subject, letters) = (Arc::clone(&subject), letters.clone());
        let topic = claim.topic.clone();
        let read = move || topic::scan(&kafka, &topic, &subject, letters.as_deref());
        if stores.kafka { task::spawn_blocking(read).await?.map(Some) } else { Ok(None) }
    };
    let files = async {
        match lake.as_ref().filter(|_| stores.lake) {
            Some(lake) => lake_files::read(lake, &subject).await.map(Some),
            None => Ok(None),
        }
    };
    let rows = async {
        match &table {
            Some(table) => table.rows(&subject, whole_table).await.map(Some),
            None => Ok(None),
        }
    };
    let (topic, files, rows) = tokio::try_join!(scan, files, rows)?;
    let offsets = match &table {
        Some(table) => table.offsets().await?,
        None => Vec::new(),
    };
    task::spawn_blocking(move || {
        report::draw_up(&report::Evidence { subject: &subject, topic, files, rows, letters, offsets })
    })
    .await
    .context("the report could not be drawn up")
}

/// A session that nobody takes for a consumer's.
async fn connect(target: &Target) -> anyhow::Result<tokio_postgres::Client> {
    Ok(postgres::connect(&target.named("event-pipeline reconcile")).await?)
}
