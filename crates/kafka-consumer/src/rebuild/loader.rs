//! One session that brings files in.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_model::{ArrowFormError, Hour, ProductEvent, Window, read_batch};
use lake::{EventFile, Lake, LakeError};
use pipeline_runtime::lake::in_words;
use pipeline_runtime::shutdown::ShutdownDeadline;
use retry_policy::RetryPolicy;
use tokio_postgres::{Client, Transaction};

use super::files::concerns_one_file;
use super::{Hours, Outcome};
use crate::batch::{Batch, Mark, OpenBatch};
use crate::postgres::{self, Phase, PhaseError, Repeats, SqlFault, Target, describe};
use crate::writer::{PlainRows, PlainRowsError};

/// What a loader works with.
pub(super) struct Means {
    pub(super) lake: Lake,
    pub(super) target: Target,
    pub(super) rebuild: i64,
    pub(super) hours: Hours,
    pub(super) rows_at_once: usize,
}

/// Result of loading a file.
pub(super) enum FileEnd {
    /// It is loaded.
    Loaded(Outcome),
    /// Its bytes are not a file of events; the reason. Nothing of it is loaded.
    Damaged(String),
    /// It cannot be fetched; the reason.
    Unavailable(String),
    /// The shutdown came first. Nothing of it is loaded.
    Left,
}

/// A row that did not go in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its file.
    pub key: String,
    /// Its place there, counted from 1.
    pub row: u64,
    /// Why.
    pub reason: String,
}

pub(super) struct Loader {
    means: Means,
    session: Option<Session>,
}

/// A session with its statements prepared, and one beside it that makes partitions, so that nobody waits for a file's
/// transaction because of them.
struct Session {
    client: Client,
    maker: Client,
    rows: PlainRows,
    /// Whether the last rows were all new, and the next ones probably are.
    fresh: bool,
}

const NOTE: &str =
    "INSERT INTO pipeline.rebuilt_files (rebuild_id, key, rows_inserted, duplicates, expired, suppressed)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rebuild_id, key) DO NOTHING";

/// Time of a shutdown for the file that is being loaded.
pub const GRACE: Duration = Duration::from_secs(5);

impl Loader {
    pub(super) fn new(means: Means) -> Self {
        Self { means, session: None }
    }

    /// Loads a file, and retries indefinitely while PostgreSQL is unavailable, until the shutdown.
    pub(super) async fn load(&mut self, key: &str, shutdown: &ShutdownDeadline) -> anyhow::Result<FileEnd> {
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
        let bytes = match self.means.lake.get(key).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(FileEnd::Unavailable("it was listed, but there is no file of that name".to_owned())),
            Err(error) if concerns_one_file(&error) => return Ok(FileEnd::Unavailable(error.to_string())),
            Err(error) => return Err(in_words(error)),
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
            let fault = match error.downcast::<PlainRowsError>()? {
                PlainRowsError::Postgres(error) => error,
                other @ PlainRowsError::Foreign(_) => return Err(other.into()),
            };
            match repeats.note(&fault) {
                SqlFault::Retry => {}
                // The next attempt should remove it.
                SqlFault::Row | SqlFault::NoPartition if repairs < MOST_REPAIRS => repairs += 1,
                _ => return Err(PlainRowsError::Postgres(fault).into()),
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

    async fn attempt(&mut self, key: &str, bytes: &Bytes, repeats: &Repeats) -> anyhow::Result<Outcome> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(&self.means.target).await?),
        };
        let transaction = session.client.transaction().await.map_err(PlainRowsError::from)?;
        let mut file = FileInHand {
            key,
            transaction,
            maker: &session.maker,
            rows: &mut session.rows,
            hours: self.means.hours,
            fresh: &mut session.fresh,
            repeats,
            day: None,
            outcome: Outcome { files: 1, ..Outcome::default() },
        };
        file.read(bytes, self.means.rows_at_once).await?;
        let FileInHand { transaction, outcome, .. } = file;
        let counts = [outcome.rows, outcome.duplicates, outcome.expired, outcome.suppressed].map(u64::cast_signed);
        let [rows, duplicates, expired, suppressed] = &counts;
        // A file with refused rows is read again by the next attempt, which has to report them too.
        if outcome.refused == 0 {
            let noted =
                transaction.execute(NOTE, &[&self.means.rebuild, &key, rows, duplicates, expired, suppressed]).await;
            noted.map_err(PlainRowsError::from)?;
        }
        let committed = transaction.commit().await;
        committed.map_err(|error| PlainRowsError::Postgres(PhaseError { error, phase: Phase::Commit }))?;
        Ok(outcome)
    }
}

impl Session {
    async fn open(target: &Target) -> Result<Self, PlainRowsError> {
        let client = postgres::connect(target).await?;
        let maker = postgres::connect(target).await?;
        let rows = PlainRows::prepare(&client).await?;
        Ok(Self { client, maker, rows, fresh: true })
    }
}

/// A file on its way into one transaction.
struct FileInHand<'a> {
    key: &'a str,
    transaction: Transaction<'a>,
    maker: &'a Client,
    rows: &'a mut PlainRows,
    hours: Hours,
    fresh: &'a mut bool,
    repeats: &'a Repeats,
    /// The day of the last row, counted from 1970-01-01, and whether retention has taken it.
    day: Option<(i64, bool)>,
    outcome: Outcome,
}

impl FileInHand<'_> {
    async fn read(&mut self, bytes: &Bytes, rows_at_once: usize) -> anyhow::Result<()> {
        let mut open = OpenBatch::new(Instant::now());
        let (mut row, mut held) = (0, 0);
        for columns in EventFile::open(self.key, bytes.clone())? {
            let columns = columns?;
            // Rows of other hours wait for nothing, and a shutdown has to be seen between them too.
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
                // A row's place stands where a record's offset does.
                let mark = Mark { offset: row.cast_signed(), fingerprint: 0 };
                open.add_row(0, 0, mark, None, &event);
                held += 1;
                if held == rows_at_once {
                    let full = std::mem::replace(&mut open, OpenBatch::new(Instant::now()));
                    self.bring_in(&full.close(), held).await?;
                    held = 0;
                }
            }
        }
        self.bring_in(&open.close(), held).await
    }

    /// Whether retention has taken an hour's day; its partition is made otherwise.
    async fn is_gone(&mut self, hour: Hour) -> anyhow::Result<bool> {
        let day = hour.start().days();
        if let Some((_, gone)) = self.day.filter(|(known, _)| *known == day) {
            return Ok(gone);
        }
        let expired = self.rows.ensure_days(self.maker, &BTreeSet::from([hour])).await;
        let gone = !expired.map_err(PlainRowsError::from)?.is_empty();
        self.day = Some((day, gone));
        Ok(gone)
    }

    async fn bring_in(&mut self, batch: &Batch, rows: usize) -> anyhow::Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let brought = if *self.fresh {
            self.rows.bring_in_new(&mut self.transaction, batch, self.repeats).await?
        } else {
            self.rows.bring_in(&self.transaction, batch, self.repeats).await?
        };
        *self.fresh = brought.duplicates == 0 && brought.suppressed == 0;
        self.outcome.duplicates += brought.duplicates;
        self.outcome.differing += brought.differing;
        self.outcome.suppressed += brought.suppressed;
        self.outcome.rows += rows as u64 - brought.duplicates - brought.suppressed - brought.refused.len() as u64;
        for one in brought.refused {
            self.refuse(one.row as u64, format!("PostgreSQL refuses it ({}): {}", one.sqlstate, one.reason));
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

/// A file has no time at which its rows were sent, so the window around it does not count.
fn valid(event: ProductEvent<'_>) -> Result<ProductEvent<'_>, String> {
    match event.check(None, Window::default()) {
        Ok(()) => Ok(event),
        Err(rejection) => Err(rejection.to_string()),
    }
}

/// Names the column of a row that has no valid event. The row's place in its batch would mislead.
fn bad_value(error: &ArrowFormError) -> String {
    match error {
        ArrowFormError::Value { column, .. } => format!("the column {column} has no valid value"),
        ArrowFormError::Missing(_) => error.to_string(),
    }
}

/// Returns the reason if an error reports bytes that are not a file of events.
fn damage(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref() {
        Some(LakeError::BadFile { problem, .. }) => Some(problem.clone()),
        _ => cause.downcast_ref::<ArrowFormError>().map(ToString::to_string),
    }
}

/// Maximum number of attempts that end with an error that the next one should have removed.
const MOST_REPAIRS: u32 = 10;

/// Policy of loading a file while PostgreSQL is unavailable.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(10));
