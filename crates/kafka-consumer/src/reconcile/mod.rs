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

use crate::kafka::group_topic::GroupTopic;
use crate::postgres::Conninfo;
use crate::reconcile::report::Report;
use crate::reconcile::subject::Subject;
use crate::reconcile::table::Table;

/// The stores that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stores {
    /// The topic.
    pub(crate) kafka: bool,
    /// The raw files and the quarantine.
    pub(crate) lake: bool,
    /// The table and the dead letters.
    pub(crate) table: bool,
}

/// What is reconciled with what.
pub(crate) struct Settings {
    /// The finished run.
    pub(crate) manifest: Manifest,
    /// Which stores are looked at; those that the run did not fill are left out.
    pub(crate) stores: Stores,
    /// Look for the run's ids in all of the table, not only in the hours of its events.
    pub(crate) whole_table: bool,
    /// Kafka.
    pub(crate) kafka: ClientConfig,
    /// The topic that the run went to, and the group that brought it into the table.
    pub(crate) group_topic: GroupTopic,
    /// The lake; none where it is not looked at.
    pub(crate) lake: Option<Lake>,
    /// The warehouse.
    pub(crate) target: Conninfo,
}

/// Looks at everything, and says where it differs.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<Report> {
    let Settings { manifest, stores, whole_table, kafka, group_topic, lake, target } = settings;
    let subject = task::spawn_blocking(move || Subject::new(manifest)).await??;
    let subject = Arc::new(subject);
    let stores = Stores {
        kafka: stores.kafka && subject.manifest.kafka.is_some(),
        lake: stores.lake && lake.is_some() && subject.manifest.lake.is_some(),
        table: stores.table && subject.manifest.kafka.is_some(),
    };

    let table = if stores.table { Some(Table::open(&target, &group_topic).await?) } else { None };
    let letters = match &table {
        Some(table) => Some(Arc::new(table.letters().await?)),
        None => None,
    };
    let scan = async {
        let (subject, letters) = (Arc::clone(&subject), letters.clone());
        let topic = group_topic.topic.clone();
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
