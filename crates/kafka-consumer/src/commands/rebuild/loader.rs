//! Loads files in one PostgreSQL session.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use event_model::{ArrowFormError, Hour, ProductEvent, Window, read_batch};
use lake::{EventFile, Lake, LakeError};
use pipeline_runtime::lake::with_hint;
use pipeline_runtime::shutdown::ShutdownDeadline;
use retry_policy::RetryPolicy;
use tokio_postgres::{Client, Transaction};

use crate::commands::rebuild::files::concerns_one_file;
use crate::commands::rebuild::outcome::{HourRange, RebuildOutcome, Refused};
use crate::ingest::row_loader::{LoadError, LoadRows, RowLoader};
use crate::postgres::fault::{Phase, PhaseError, Repeats, SqlFault};
use crate::postgres::{self, Conninfo, describe};

/// Settings of a loader.
pub(crate) struct LoaderContext {
    pub(crate) lake: Lake,
    pub(crate) target: Conninfo,
    pub(crate) rebuild: i64,
    pub(crate) hours: HourRange,
    pub(crate) rows_at_once: usize,
}

/// Result of loading a file.
pub(crate) enum FileEnd {
    Loaded(RebuildOutcome),
    /// The content is not a valid event file. Nothing was loaded. Holds the reason.
    Damaged(String),
    /// The file cannot be fetched. Holds the reason.
    Unavailable(String),
    /// The shutdown interrupted the file. Nothing was loaded.
    Left,
}

pub(crate) struct Loader {
    context: LoaderContext,
    session: Option<Session>,
}

/// A session with prepared statements, and a second one that creates table partitions. Creating them in the file's
/// transaction would block other sessions until its commit.
struct Session {
    client: Client,
    maker: Client,
    rows: RowLoader,
    /// True if the last rows were all new, so that the next ones probably are too.
    fresh: bool,
}

const NOTE: &str =
    "INSERT INTO pipeline.rebuilt_files (rebuild_id, key, rows_inserted, duplicates, expired, suppressed)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rebuild_id, key) DO NOTHING";

/// Time for the current file after a shutdown was requested.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

impl Loader {
    pub(crate) fn new(context: LoaderContext) -> Self {
        Self { context, session: None }
    }

    /// Loads a file. Retries indefinitely while PostgreSQL is unavailable, until the shutdown.
    pub(crate) async fn load(&mut self, key: &str, shutdown: &ShutdownDeadline) -> anyhow::Result<FileEnd> {
        tokio::select! {
            end = self.fetch_and_load(key, shutdown) => end,
            // Dropping the transaction rolls it back.
            () = shutdown.over() => {
                self.session = None;
                Ok(FileEnd::Left)
            }
        }
    }

    async fn fetch_and_load(&mut self, key: &str, shutdown: &ShutdownDeadline) -> anyhow::Result<FileEnd> {
        let bytes = match self.context.lake.get(key).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(FileEnd::Unavailable("the file was deleted after it was listed".to_owned())),
            Err(error) if concerns_one_file(&error) => return Ok(FileEnd::Unavailable(error.to_string())),
            Err(error) => return Err(with_hint(error)),
        };
        let mut delays = RETRY.delays();
        let mut repeats = Repeats::default();
        let mut repairs = 0;
        loop {
            let error = match self.attempt(key, &bytes, &repeats).await {
                Ok(outcome) => return Ok(FileEnd::Loaded(outcome)),
                Err(error) => error,
            };
            self.session = None;
            if let Some(reason) = error.chain().find_map(damage) {
                return Ok(FileEnd::Damaged(reason));
            }
            let LoadError(fault) = error.downcast()?;
            match repeats.note(&fault) {
                SqlFault::Retry => {}
                // The next attempt should remove the cause.
                SqlFault::Row | SqlFault::NoPartition if repairs < MOST_REPAIRS => repairs += 1,
                _ => return Err(LoadError(fault).into()),
            }
            let fault = &fault.error;
            let pause = delays.next_or_maximum();
            tracing::warn!(key, error = describe(fault), pause_seconds = pause.as_secs_f64(), "postgres retry");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.requested() => return Ok(FileEnd::Left),
            }
        }
    }

    async fn attempt(&mut self, key: &str, bytes: &Bytes, repeats: &Repeats) -> anyhow::Result<RebuildOutcome> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(&self.context.target).await?),
        };
        let transaction = session.client.transaction().await.map_err(LoadError::from)?;
        let mut file = OpenFile {
            key,
            transaction,
            maker: &session.maker,
            rows: &mut session.rows,
            hours: self.context.hours,
            fresh: &mut session.fresh,
            repeats,
            day: None,
            outcome: RebuildOutcome { files: 1, ..RebuildOutcome::default() },
        };
        file.read(bytes, self.context.rows_at_once).await?;
        let OpenFile { transaction, outcome, .. } = file;
        let counts = [outcome.rows, outcome.duplicates, outcome.expired, outcome.suppressed].map(u64::cast_signed);
        let [rows, duplicates, expired, suppressed] = &counts;
        // A file with refused rows is not recorded as loaded: the next attempt reads it again and reports them too.
        if outcome.refused == 0 {
            let noted =
                transaction.execute(NOTE, &[&self.context.rebuild, &key, rows, duplicates, expired, suppressed]).await;
            noted.map_err(LoadError::from)?;
        }
        let committed = transaction.commit().await;
        committed.map_err(|error| LoadError(PhaseError { error, phase: Phase::Commit }))?;
        Ok(outcome)
    }
}

impl Session {
    async fn open(target: &Conninfo) -> Result<Self, LoadError> {
        let client = postgres::connect(target).await?;
        let maker = postgres::connect(target).await?;
        let rows = RowLoader::prepare(&client).await?;
        Ok(Self { client, maker, rows, fresh: true })
    }
}

/// A file that is being loaded in one transaction.
struct OpenFile<'a> {
    key: &'a str,
    transaction: Transaction<'a>,
    maker: &'a Client,
    rows: &'a mut RowLoader,
    hours: HourRange,
    fresh: &'a mut bool,
    repeats: &'a Repeats,
    /// Day of the last row in days since 1970-01-01, and true if retention has dropped that day.
    day: Option<(i64, bool)>,
    outcome: RebuildOutcome,
}

impl OpenFile<'_> {
    async fn read(&mut self, bytes: &Bytes, rows_at_once: usize) -> anyhow::Result<()> {
        let mut rows = LoadRows::default();
        let mut row = 0;
        for columns in EventFile::open(self.key, bytes.clone())? {
            let columns = columns?;
            // Skipping rows of other hours never waits, so yield here to let the shutdown through.
            tokio::task::yield_now().await;
            for event in read_batch(&columns)? {
                row += 1;
                let event = match event.map_err(|error| bad_value(&error)).and_then(valid) {
                    Ok(event) => event,
                    Err(reason) => {
                        self.refuse(row, reason);
                        continue;
                    }
                };
                if !self.hours.hold(event.event_timestamp.hour()) {
                    self.outcome.rows_outside += 1;
                    continue;
                }
                if self.is_gone(event.event_timestamp.hour()).await? {
                    self.outcome.expired += 1;
                    continue;
                }
                rows.add(row, &event);
                if rows.count() == rows_at_once as u64 {
                    self.load(&std::mem::take(&mut rows)).await?;
                }
            }
        }
        self.load(&rows).await
    }

    /// Returns true if retention has dropped the day of an hour. Otherwise creates the day's table partition.
    async fn is_gone(&mut self, hour: Hour) -> anyhow::Result<bool> {
        let day = hour.start().days();
        if let Some((_, gone)) = self.day.filter(|(known, _)| *known == day) {
            return Ok(gone);
        }
        let expired = self.rows.ensure_days(self.maker, &BTreeSet::from([hour])).await;
        let gone = !expired.map_err(LoadError::from)?.is_empty();
        self.day = Some((day, gone));
        Ok(gone)
    }

    async fn load(&mut self, rows: &LoadRows) -> anyhow::Result<()> {
        if rows.count() == 0 {
            return Ok(());
        }
        let loaded = if *self.fresh {
            self.rows.load_new(&mut self.transaction, rows, self.repeats).await?
        } else {
            self.rows.load(&self.transaction, rows, self.repeats).await?
        };
        *self.fresh = loaded.duplicates == 0 && loaded.suppressed == 0;
        self.outcome.duplicates += loaded.duplicates;
        self.outcome.differing += loaded.differing;
        self.outcome.suppressed += loaded.suppressed;
        self.outcome.rows += rows.count() - loaded.duplicates - loaded.suppressed - loaded.refused.len() as u64;
        for one in loaded.refused {
            self.refuse(one.number, format!("PostgreSQL refused it ({}): {}", one.sqlstate, one.reason));
        }
        Ok(())
    }

    fn refuse(&mut self, row: u64, reason: String) {
        tracing::warn!(key = self.key, row, reason, "row refused");
        self.outcome.refused += 1;
        let key = self.key.to_owned();
        self.outcome.first_refused.get_or_insert(Refused { key, row, reason });
    }
}

/// Checks an event without the time window: a file does not contain the time at which its records were sent.
fn valid(event: ProductEvent<'_>) -> Result<ProductEvent<'_>, String> {
    match event.check(None, Window::default()) {
        Ok(()) => Ok(event),
        Err(rejection) => Err(rejection.to_string()),
    }
}

/// Describes a row that has no valid event by its column. The row number within its batch would mislead.
fn bad_value(error: &ArrowFormError) -> String {
    match error {
        ArrowFormError::Value { column, .. } => format!("invalid value in column {column}"),
        ArrowFormError::Missing(_) => error.to_string(),
    }
}

/// Returns the reason if an error means that the file is not a valid event file.
fn damage(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref() {
        Some(LakeError::BadFile { problem, .. }) => Some(problem.clone()),
        _ => cause.downcast_ref::<ArrowFormError>().map(ToString::to_string),
    }
}

/// Maximum number of retries of a file after row errors and missing table partitions.
const MOST_REPAIRS: u32 = 10;

/// Policy of loading a file while PostgreSQL is unavailable.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(10));
