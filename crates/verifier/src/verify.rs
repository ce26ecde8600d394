//! Reads the stores and evaluates the equations.

use std::collections::HashMap;

use crate::database::{Counts, Database};
use crate::equations::evaluate;
use crate::evidence::Evidence;
use crate::field;
use crate::lake::{Files, read_files};
use crate::ledger::Ledger;
use crate::store::{LakeAt, Store};
use crate::terms::{Stores, Terms};
use crate::topic::Topic;
use crate::{Error, Report, Run};

/// Reads the stores and verifies the run.
///
/// The stores must not change during the verification. Blocks the calling thread, but may be called inside a runtime:
/// it uses its own thread and runtime.
pub fn verify(stores: &Stores, run: &Run, terms: &Terms) -> Result<Report, Error> {
    on_own_thread(|| gather(stores, run, terms)).map(|seen| evaluate(&seen))
}

/// Verifies a run as [`verify()`] does, without blocking the caller's runtime.
pub async fn verify_async(stores: &Stores, run: &Run, terms: &Terms) -> Result<Report, Error> {
    let (stores, run, terms) = (stores.clone(), run.clone(), terms.clone());
    let report = tokio::task::spawn_blocking(move || verify(&stores, &run, &terms)).await;
    report.map_err(|e| Error::Thread(e.to_string()))?
}

/// Reads the counts of a group for a topic.
pub fn count(stores: &Stores, group: &str, topic: &str) -> Result<Counts, Error> {
    on_own_thread(|| async { Database::open(&stores.database_url).await?.offsets(group, topic).await })
}

/// Reads a run's manifest, `runs/<run>.json`, from the lake.
pub fn fetch_run(lake: &LakeAt, run_id: &str) -> Result<Run, Error> {
    let key = format!("runs/{run_id}.json");
    let bytes = on_own_thread(|| async { Store::open(lake).await.get(&key).await })?;
    Run::parse(&String::from_utf8_lossy(&bytes), &key)
}

fn on_own_thread<T: Send, F: Future<Output = Result<T, Error>>>(work: impl FnOnce() -> F + Send) -> Result<T, Error> {
    let body = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Error::Thread(e.to_string()))?.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(body).join())
        .map_err(|_| Error::Thread("it panicked; report this bug".to_owned()))?
}

async fn gather<'a>(stores: &Stores, run: &'a Run, terms: &'a Terms) -> Result<Evidence<'a>, Error> {
    field::check().map_err(Error::Schema)?;
    let mut seen = Evidence {
        run,
        terms,
        ledger: Ledger::new(run, terms.whole_topic),
        spans: HashMap::new(),
        offsets: HashMap::new(),
        files: Files::default(),
        with_table: run.kafka.is_some() && terms.group.is_some(),
    };
    let mut database = None;
    if let (Some(kafka), Some(group)) = (&run.kafka, &terms.group) {
        let snapshot = Database::open(&stores.database_url).await?;
        seen.offsets = snapshot.offsets(group, &kafka.topic).await?.since(&terms.earlier).0;
        let incarnation = seen.offsets.values().map(|row| row.incarnation).max().unwrap_or(1);
        snapshot.letters(group, &kafka.topic, incarnation, &mut seen.ledger).await?;
        database = Some(snapshot);
    }
    if let Some(kafka) = &run.kafka {
        let topic = Topic::open(&stores.bootstrap_servers, &kafka.topic)?;
        seen.spans = topic.spans()?;
        topic.scan(&seen.spans, &mut seen.ledger)?;
    }
    if run.lake.is_some() {
        let store = Store::open(&stores.lake).await;
        seen.files = read_files(&store, &run.id, &mut seen.ledger).await?;
    }
    if let Some(snapshot) = database {
        snapshot.table(&mut seen.ledger).await?;
    }
    Ok(seen)
}
