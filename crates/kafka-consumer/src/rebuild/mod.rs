//! Loads the table from the lake: the rows of each Parquet file below `raw/` in one transaction, which also notes the
//! file as loaded.
//!
//! Existing rows stay as they are and are counted, so that a rebuild can run beside consumers, after them, and again. The
//! next attempt continues an interrupted rebuild with the remaining files. A file that cannot be read does not keep the
//! others from the table; it is named, and the rebuild is not finished.

mod files;
mod ledger;
mod loader;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use event_model::Hour;
use lake::Lake;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown::ShutdownDeadline;
use tokio::task::JoinSet;

use crate::migrations::{self, Pending};
use crate::postgres::{self, Target};
pub use files::UnreadFiles;
use ledger::Ledger;
use loader::{FileEnd, Loader, Means};
pub use loader::{GRACE, Refused};

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
    /// Finish without the damaged files.
    pub skip_damaged: bool,
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
    /// Files that are left because of the shutdown.
    pub files_left: u64,
    /// Files whose bytes are not a file of events.
    pub damaged: UnreadFiles,
    /// Files that could not be fetched.
    pub unavailable: UnreadFiles,
    /// New rows.
    pub rows: u64,
    /// Rows that were there.
    pub duplicates: u64,
    /// Those of them whose content is not the file's.
    pub differing: u64,
    /// Rows of other hours than those of the rebuild.
    pub rows_outside: u64,
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
        self.rows_outside += file.rows_outside;
        self.expired += file.expired;
        self.suppressed += file.suppressed;
        self.refused += file.refused;
        self.first_refused = self.first_refused.take().or(file.first_refused);
    }

    /// Number of files that are loaded or known to be unreadable.
    fn settled(&self) -> u64 {
        self.files + self.damaged.count + self.unavailable.count
    }
}

/// Brings everything in, or what there is time for until the shutdown is asked for.
pub async fn run(settings: Settings, shutdown: ShutdownDeadline) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let session = settings.target.named("event-pipeline rebuild");
    let mut client = postgres::connect_at_start(&session).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "script applied");
    }
    let ledger = Ledger::open(client, &settings.lake.url().to_string(), settings.hours).await?;
    let files = tokio::select! {
        files = files::list(&settings.lake, settings.hours) => files?,
        () = shutdown.requested() => {
            return Err(anyhow!("ended before the files were listed; run the same command again to continue").into());
        }
    };
    let all = files.len() as u64;
    let todo = files::remaining(files, &ledger.done().await?, ledger.began());
    let files_before = all - todo.len() as u64;
    tracing::info!(lake = %settings.lake.url(), files = todo.len(), files_before, postgres = %settings.target, "rebuilding");

    let progress = Progress::new(settings.progress, Some(all), "files");
    let outcome = Outcome { files: files_before, files_before, ..Outcome::default() };
    let work = Arc::new(Work { outcome: Mutex::new(outcome), todo: Mutex::new(todo.into_iter()), progress, shutdown });
    let mut loaders = JoinSet::new();
    for number in 1..=settings.writers {
        let means = Means {
            lake: settings.lake.clone(),
            target: session.named(&format!("event-pipeline rebuild {number}")),
            rebuild: ledger.id(),
            hours: settings.hours,
            rows_at_once: settings.rows_at_once,
        };
        loaders.spawn(load(means, Arc::clone(&work)));
    }
    while let Some(ended) = loaders.join_next().await {
        ended.context("a loader panicked, which is a bug; its transaction is rolled back")??;
    }
    let mut outcome = guard(&work.outcome).clone();
    // Counted from the end, so that no way out of a loader can forget a file.
    outcome.files_left = all - outcome.settled();
    outcome.elapsed = began.elapsed();
    let complete = outcome.damaged.count == 0 || settings.skip_damaged;
    if outcome.files_left == 0 && outcome.unavailable.count == 0 && complete {
        ledger.finish().await?;
    }
    Ok(outcome)
}

/// What the loaders share.
struct Work {
    outcome: Mutex<Outcome>,
    todo: Mutex<std::vec::IntoIter<String>>,
    progress: Progress,
    shutdown: ShutdownDeadline,
}

/// Loads file after file.
async fn load(means: Means, work: Arc<Work>) -> anyhow::Result<()> {
    let mut loader = Loader::new(means);
    while !work.shutdown.is_requested() {
        let Some(key) = guard(&work.todo).next() else { break };
        let end = loader.load(&key, &work.shutdown).await.with_context(|| key.clone())?;
        let mut outcome = guard(&work.outcome);
        match end {
            FileEnd::Loaded(file) => outcome.add(file),
            FileEnd::Damaged(reason) => {
                tracing::warn!(key, reason, "file not read");
                outcome.damaged.add(&key, reason);
            }
            FileEnd::Unavailable(reason) => {
                tracing::warn!(key, reason, "file not fetched");
                outcome.unavailable.add(&key, reason);
            }
            FileEnd::Left => break,
        }
        work.progress.set(outcome.settled());
        work.progress.say(format!("{} rows, {} there already", outcome.rows, outcome.duplicates));
    }
    Ok(())
}

fn guard<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
