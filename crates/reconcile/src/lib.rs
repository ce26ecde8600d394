//! Compares the expected events of a run with every store.
//!
//! Counts and sums of hashes by hour are computed for each store and compared with the manifest. If this version
//! generates the same events from the manifest's settings, each event in a store is also compared with the generated
//! event of its index, so that no check depends on the programs' own counts. A run of another version is compared by
//! its sums, and its stores with each other. Each store takes one bit of memory per index.

mod dead_letters;
mod findings;
mod hourly_sums;
mod index_set;
mod lake_files;
mod report;
mod run_under_test;
mod store;
mod table;
mod topic;

use std::sync::Arc;

use anyhow::Context;
use lake::{Lake, Manifest};
use rdkafka::config::ClientConfig;
use tokio::task;
use tokio_postgres::Client;

use crate::report::Evidence;
pub use crate::report::{Check, Report};
use crate::run_under_test::RunUnderTest;
use crate::table::Table;

/// Stores to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stores {
    /// True to compare the topic.
    pub kafka: bool,
    /// True to compare the raw files and the quarantine.
    pub lake: bool,
    /// True to compare the table and the dead letters.
    pub table: bool,
}

impl Stores {
    /// Returns these stores without those that the run did not write to.
    #[must_use]
    pub fn filled_by(self, manifest: &Manifest) -> Self {
        Self {
            kafka: self.kafka && manifest.kafka.is_some(),
            lake: self.lake && manifest.lake.is_some(),
            table: self.table && manifest.kafka.is_some(),
        }
    }
}

/// Input of a comparison.
pub struct ReconcileConfig {
    /// Manifest of the finished run.
    pub manifest: Manifest,
    /// True to search the whole table for the run's IDs, not only the hours of its events.
    pub whole_table: bool,
    /// Configuration of the Kafka client; the topic is not read if it is `None`.
    pub kafka: Option<ClientConfig>,
    /// Topic that the run was sent to.
    pub topic: String,
    /// Consumer group that inserted the run into the table.
    pub group: String,
    /// The lake; its files are not read if it is `None`.
    pub lake: Option<Lake>,
    /// PostgreSQL sessions that read the table in parallel; the table is not read if there are none.
    pub sessions: Vec<Client>,
}

/// Reads the stores and compares them. Fails if a store cannot be read or if the run is not finished.
pub async fn run(config: ReconcileConfig) -> anyhow::Result<Report> {
    let ReconcileConfig { manifest, whole_table, kafka, topic, group, lake, sessions } = config;
    let run = task::spawn_blocking(move || RunUnderTest::new(manifest)).await??;
    let run = Arc::new(run);

    let table = Table::new(group, topic.clone(), sessions);
    let letters = match &table {
        Some(table) => Some(Arc::new(table.letters().await?)),
        None => None,
    };
    let scan = async {
        let Some(kafka) = kafka else { return Ok(None) };
        let (run, letters) = (Arc::clone(&run), letters.clone());
        let read = move || topic::scan(&kafka, &topic, &run, letters.as_deref());
        task::spawn_blocking(read).await?.map(Some)
    };
    let files = async {
        match &lake {
            Some(lake) => lake_files::read(lake, &run).await.map(Some),
            None => Ok(None),
        }
    };
    let rows = async {
        match &table {
            Some(table) => table.rows(&run, whole_table).await.map(Some),
            None => Ok(None),
        }
    };
    let (topic, files, rows) = tokio::try_join!(scan, files, rows)?;
    let offsets = match &table {
        Some(table) => table.offsets().await?,
        None => Vec::new(),
    };
    task::spawn_blocking(move || report::build(&Evidence { run: &run, topic, files, rows, letters, offsets }))
        .await
        .context("cannot build the report")
}
