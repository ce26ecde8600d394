//! The table from the lake: each raw file's rows in one transaction, which also notes that the file is in.
//!
//! Rows that are there already stay as they are and are counted, so a rebuild can run beside consumers, after them, and
//! again. One that was interrupted goes on with the files that it has not brought in yet.

mod ledger;
mod loader;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use event_model::Hour;
use lake::{Key, Lake, RAW_PREFIX};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::lake::in_words;
use pipeline_runtime::progress::Progress;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::migrations::{self, Pending};
use crate::postgres::{self, Target};
use ledger::Ledger;
pub use loader::Refused;
use loader::{Loader, Means};

/// Which hours of `event_timestamp`; none is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// The first one.
    pub from: Option<Hour>,
    /// The first one after them.
    pub to: Option<Hour>,
}

impl Hours {
    /// Whether an hour is one of them.
    #[must_use]
    pub fn hold(&self, hour: Hour) -> bool {
        self.from.is_none_or(|from| from <= hour) && self.to.is_none_or(|to| hour < to)
    }
}

/// What a rebuild is asked to do.
pub struct Settings {
    /// Where the files are.
    pub lake: Lake,
    /// Which of them.
    pub hours: Hours,
    /// The warehouse.
    pub target: Target,
    /// Sessions of PostgreSQL that write side by side.
    pub writers: usize,
    /// Rows that are brought in at once.
    pub rows_at_once: usize,
    /// What to do about pending scripts.
    pub pending: Pending,
    /// Show progress.
    pub progress: bool,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Files that are in now, and how many an earlier attempt had brought in.
    pub files: u64,
    /// Of those, what an earlier attempt had brought in.
    pub files_before: u64,
    /// Files that are left, because the end was asked for.
    pub files_left: u64,
    /// New rows.
    pub rows: u64,
    /// Rows that were there.
    pub duplicates: u64,
    /// Those of them whose content is not the file's.
    pub differing: u64,
    /// Rows of days that retention has taken.
    pub expired: u64,
    /// Rows that a trigger suppressed or redirected.
    pub suppressed: u64,
    /// Rows that are no valid events or that PostgreSQL refuses; the first of them.
    pub refused: u64,
    /// An example.
    pub first_refused: Option<Refused>,
    /// The time that it took.
    pub elapsed: Duration,
}

impl Outcome {
    fn add(&mut self, file: Self) {
        self.files += file.files;
        self.rows += file.rows;
        self.duplicates += file.duplicates;
        self.differing += file.differing;
        self.expired += file.expired;
        self.suppressed += file.suppressed;
        self.refused += file.refused;
        self.first_refused = self.first_refused.take().or(file.first_refused);
    }
}

/// Brings everything in, or what there is time for until the shutdown is asked for.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let session = settings.target.named("event-pipeline rebuild");
    let mut client = postgres::connect_at_start(&session).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "script applied");
    }
    let ledger = Ledger::open(client, &settings.lake.url().to_string(), settings.hours).await?;
    let keys = keys(&settings.lake, settings.hours).await?;
    let done = ledger.done().await?;
    let todo: Vec<String> = keys.iter().filter(|key| !done.contains(*key)).cloned().collect();
    let files_before = (keys.len() - todo.len()) as u64;
    tracing::info!(lake = %settings.lake.url(), files = todo.len(), files_before, postgres = %settings.target, "rebuilding");

    let progress = Progress::new(settings.progress, Some(keys.len() as u64), "files");
    let outcome = Outcome { files: files_before, files_before, ..Outcome::default() };
    let work = Arc::new(Work { outcome: Mutex::new(outcome), todo: Mutex::new(todo.into_iter()), progress, shutdown });
    let mut loaders = JoinSet::new();
    for number in 1..=settings.writers {
        let means = Means {
            lake: settings.lake.clone(),
            target: session.named(&format!("event-pipeline rebuild {number}")),
            rebuild: ledger.id(),
            rows_at_once: settings.rows_at_once,
        };
        loaders.spawn(load(means, Arc::clone(&work)));
    }
    while let Some(ended) = loaders.join_next().await {
        ended.context("a loader panicked, which is a bug; its transaction is rolled back")??;
    }
    let mut outcome = guard(&work.outcome).clone();
    outcome.files_left = guard(&work.todo).len() as u64;
    outcome.elapsed = began.elapsed();
    if outcome.files_left == 0 {
        ledger.finish().await?;
    }
    Ok(outcome)
}

/// What the loaders share.
struct Work {
    outcome: Mutex<Outcome>,
    todo: Mutex<std::vec::IntoIter<String>>,
    progress: Progress,
    shutdown: CancellationToken,
}

/// Brings file after file in.
async fn load(means: Means, work: Arc<Work>) -> anyhow::Result<()> {
    let mut loader = Loader::new(means);
    while !work.shutdown.is_cancelled() {
        let Some(key) = guard(&work.todo).next() else { break };
        let file = loader.bring_in(&key, &work.shutdown).await.with_context(|| key.clone())?;
        let Some(file) = file else { break };
        let mut outcome = guard(&work.outcome);
        outcome.add(file);
        work.progress.set(outcome.files);
        work.progress.say(format!("{} rows, {} there already", outcome.rows, outcome.duplicates));
    }
    Ok(())
}

/// The raw files of the hours, in the order of their hours.
async fn keys(lake: &Lake, hours: Hours) -> anyhow::Result<Vec<String>> {
    let objects = lake.list(RAW_PREFIX).await.map_err(in_words)?;
    if objects.is_empty() {
        return Err(anyhow!("{} has no files under {RAW_PREFIX}; is --lake right?", lake.url()));
    }
    let wanted = |key: &String| matches!(key.parse(), Ok(Key::Raw { hour, .. }) if hours.hold(hour));
    Ok(objects.into_iter().map(|object| object.key).filter(wanted).collect())
}

fn guard<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
