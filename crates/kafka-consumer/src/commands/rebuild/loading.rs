//! Loads the table from the lake. Each Parquet file below `raw/` is one transaction, which also records the file as
//! loaded.
//!
//! Existing rows are kept and counted, so that a rebuild can run beside consumers, after them, and again. The next
//! attempt continues an interrupted rebuild with the remaining files. An unreadable file does not stop the others; it
//! is reported, and the rebuild stays unfinished.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, anyhow};
use lake::Lake;
use pipeline_runtime::exit::Failure;
use pipeline_runtime::progress::Progress;
use pipeline_runtime::shutdown::ShutdownDeadline;
use tokio::task::JoinSet;

use crate::commands::rebuild::files;
use crate::commands::rebuild::loader::{FileEnd, Loader, LoaderContext};
use crate::commands::rebuild::outcome::{HourRange, RebuildOutcome};
use crate::commands::rebuild::progress_log::ProgressLog;
use crate::postgres::migrations::{self, Pending};
use crate::postgres::{self, Conninfo};

/// Settings of a rebuild.
pub(crate) struct RebuildConfig {
    pub(crate) lake: Lake,
    /// Hours to load.
    pub(crate) hours: HourRange,
    /// Warehouse.
    pub(crate) target: Conninfo,
    /// Number of PostgreSQL sessions that write in parallel.
    pub(crate) writers: usize,
    /// Maximum number of rows in a COPY.
    pub(crate) rows_at_once: usize,
    /// Finish without the damaged files.
    pub(crate) skip_damaged: bool,
    /// Handling of pending scripts.
    pub(crate) pending: Pending,
    /// Show a progress line.
    pub(crate) progress: bool,
}

/// Loads all remaining files, or as many as possible until a shutdown is requested.
pub(crate) async fn run(settings: RebuildConfig, shutdown: ShutdownDeadline) -> Result<RebuildOutcome, Failure> {
    let began = Instant::now();
    let session = settings.target.named("event-pipeline rebuild");
    let mut client = postgres::connect_at_start(&session).await?;
    for script in migrations::bring_up_to_date(&mut client, settings.pending).await? {
        tracing::info!(script, "migration applied");
    }
    let ledger = ProgressLog::open(client, &settings.lake.url().to_string(), settings.hours).await?;
    let files = tokio::select! {
        files = files::list(&settings.lake, settings.hours) => files?,
        () = shutdown.requested() => {
            return Err(anyhow!("rebuild stopped before the files were listed; run the same command again to continue").into());
        }
    };
    let all = files.len() as u64;
    let todo = files::remaining(files, &ledger.done().await?, ledger.began());
    let files_before = all - todo.len() as u64;
    tracing::info!(lake = %settings.lake.url(), files = todo.len(), files_before, postgres = %settings.target, "rebuild started");

    let progress = Progress::new(settings.progress, Some(all), "files");
    let outcome = RebuildOutcome { files: files_before, files_before, ..RebuildOutcome::default() };
    let work = Arc::new(Work { outcome: Mutex::new(outcome), todo: Mutex::new(todo.into_iter()), progress, shutdown });
    let mut loaders = JoinSet::new();
    for number in 1..=settings.writers {
        let means = LoaderContext {
            lake: settings.lake.clone(),
            target: session.named(&format!("event-pipeline rebuild {number}")),
            rebuild: ledger.id(),
            hours: settings.hours,
            rows_at_once: settings.rows_at_once,
        };
        loaders.spawn(load(means, Arc::clone(&work)));
    }
    while let Some(ended) = loaders.join_next().await {
        ended.context("a loader panicked; its transaction was rolled back; report this bug")??;
    }
    let mut outcome = guard(&work.outcome).clone();
    // Computed from the total, so that no exit path of a loader can lose a file.
    outcome.files_left = all - outcome.settled();
    outcome.elapsed = began.elapsed();
    let complete = outcome.damaged.count == 0 || settings.skip_damaged;
    if outcome.files_left == 0 && outcome.unavailable.count == 0 && complete {
        ledger.finish().await?;
    }
    Ok(outcome)
}

/// State shared by the loaders.
struct Work {
    outcome: Mutex<RebuildOutcome>,
    todo: Mutex<std::vec::IntoIter<String>>,
    progress: Progress,
    shutdown: ShutdownDeadline,
}

/// Loads files from the shared list, one at a time.
async fn load(means: LoaderContext, work: Arc<Work>) -> anyhow::Result<()> {
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
        work.progress.say(format!("{} rows, {} duplicates", outcome.rows, outcome.duplicates));
    }
    Ok(())
}

fn guard<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
