//! Writer: commits the batches of its partitions over one PostgreSQL session, one transaction each.

pub(crate) mod answers;
mod attempt;
pub(crate) mod copy;
pub(crate) mod dead_letter_limit;
pub(crate) mod dead_letter_limiter;
mod dead_letters;
#[cfg(feature = "failpoints")]
pub(crate) mod driven;
mod duplicate_lookup;
pub(crate) mod error;
mod likely_duplicates;
mod probe;
mod refused_rows;
pub(crate) mod session;
pub(crate) mod staged_insert;
mod takeover;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest_protocol::attempts::{Attempts, Delay, Next, Retry};
use ingest_protocol::ownership::Ownership;
use ingest_protocol::position::RecordPosition;
use ingest_protocol::settlement::Settlement;
use retry_policy::{Delays, RetryPolicy};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::dead_letter::DeadLetter;
use crate::ingest::batch::closed::{Batch, PendingDeadLetter};
use crate::ingest::messages::{Command, Report};
use crate::ingest::writer::answers::Answers;
use crate::ingest::writer::attempt::{AttemptError, outcome};
use crate::ingest::writer::dead_letter_limiter::DeadLetterLimiter;
use crate::ingest::writer::error::WriterError;
use crate::ingest::writer::probe::Probe;
use crate::ingest::writer::refused_rows::{RefusedRow, RefusedRows};
use crate::ingest::writer::session::{Session, SessionContext, WriteRequest};
use crate::kafka::fingerprint;
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::{RecordLookup, RecordLookupError};
use crate::observability::counters::{CommittedPart, Counters};
use crate::observability::health::Health;
use crate::observability::record_counts::RecordCounts;
use crate::postgres::Conninfo;
use crate::postgres::fault::{PhaseError, Repeats, is_login_refusal};

/// Maximum time without an answer during an attempt before its session is abandoned. Only a staged insert notes its
/// answers, so this also limits a whole attempt in `Copy` mode. The longest wait of a statement, for a lock, is 30 s
/// (`lock_timeout`).
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Timeout for opening a session.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// Maximum duration of an attempt.
const TRANSACTION_LIMIT: Duration = Duration::from_mins(15);

/// Maximum number of refused rows per transaction. A batch with more is written in several consecutive transactions,
/// which limits the memory for their records and preserves the progress.
const MAX_REFUSED_ROWS: usize = 256;

#[derive(Clone)]
pub(crate) struct WriterConfig {
    pub(crate) target: Conninfo,
    pub(crate) group_topic: GroupTopic,
    /// Number of the writer, counted from 1.
    pub(crate) number: usize,
    /// Counts committed batches and retries.
    pub(crate) counters: Arc<Counters>,
    /// Receives health updates.
    pub(crate) health: Arc<Health>,
    /// Dead-letter limit, shared by all writers.
    pub(crate) limiter: DeadLetterLimiter,
    /// Reads the records of refused rows again.
    pub(crate) record_lookup: RecordLookup,
    /// Cancelled when the writer has to give up instead of retrying.
    pub(crate) give_up: CancellationToken,
}

/// Session and the partitions that it owns. No other session of this process moves their offsets.
pub(crate) struct Writer {
    context: SessionContext,
    number: usize,
    counters: Arc<Counters>,
    health: Arc<Health>,
    give_up: CancellationToken,
    reports: mpsc::UnboundedSender<Report>,
    session: Option<Session>,
    owned: Ownership,
    probe: Probe,
}

impl Writer {
    /// Returns a writer without partitions.
    #[must_use]
    pub(crate) fn new(setting: WriterConfig, reports: mpsc::UnboundedSender<Report>) -> Self {
        let WriterConfig { target, group_topic, number, limiter, record_lookup, counters, health, give_up } = setting;
        let context = SessionContext { target, group_topic, limiter, record_lookup };
        let (owned, probe) = (Ownership::default(), Probe::default());
        Self { context, number, counters, health, give_up, reports, session: None, owned, probe }
    }

    /// Executes commands until the channel is closed, or a batch fails with a permanent error.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), WriterError> {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Own { partition, epoch, position } => {
                    self.owned.own(partition, epoch, position);
                    self.counters.owns(partition, position.next_offset);
                }
                Command::Release { partitions, done } => {
                    for partition in partitions {
                        if self.owned.release(partition) {
                            self.counters.release(partition);
                        }
                    }
                    // The source may have stopped waiting.
                    let _ = done.send(());
                }
                Command::Write(batch) => {
                    if let Err(error) = self.write(batch).await {
                        self.report(Report::Failed);
                        return Err(error);
                    }
                    self.health.settled(self.number);
                }
            }
        }
        Ok(())
    }

    /// Writes a batch, retrying until it is committed. The records of refused rows are read from Kafka again and become
    /// dead letters. If there are many, a prefix of the batch is written before the rest.
    async fn write(&mut self, batch: Batch) -> Result<(), WriterError> {
        let began = Instant::now();
        let mut todo = vec![batch];
        let mut refusals = RefusedRows::default();
        let mut repeats = Repeats::default();
        while let Some(mut batch) = todo.pop() {
            self.drop_what_is_not_owned(&mut batch);
            let chosen = refusals.take_first(&batch, MAX_REFUSED_ROWS);
            let (letters, last) = self.read_again(&chosen, &batch).await?;
            if let (Some((partition, last)), true) = (last, refusals.has_any_of(&batch)) {
                let first = batch.take_up_to(partition, last);
                todo.push(std::mem::replace(&mut batch, first));
            }
            let refused = numbered(&batch, letters);
            if let Some(found) = self.write_one(&mut batch, &refused, &mut repeats, began).await? {
                refusals.add(chosen);
                refusals.add(found);
                todo.push(batch);
            }
        }
        Ok(())
    }

    /// Reads the records of refused rows again, outside any transaction. Returns their dead letters, and the position
    /// of the last one.
    async fn read_again(
        &self,
        rows: &[RefusedRow],
        batch: &Batch,
    ) -> Result<(Vec<Letter>, Option<(i32, RecordPosition)>), WriterError> {
        let Some(last) = rows.last() else { return Ok((Vec::new(), None)) };
        let last = (last.partition, last.offset);
        let mut delays = RETRY.delays();
        loop {
            let wanted = rows.iter().map(|row| ((row.partition, row.offset), row.clone())).collect();
            let reading = self.context.record_lookup.records(wanted, |record, row: RefusedRow| {
                (DeadLetter::refused_by_postgres(record, row.sqlstate, &row.reason), fingerprint::of(record))
            });
            let read = tokio::select! {
                read = reading => read,
                () = self.give_up.cancelled() => return Err(self.abandoned(batch)),
            };
            match read {
                Ok(records) => {
                    let fingerprint = records.last().map_or(0, |(_, (_, fingerprint))| *fingerprint);
                    let letters =
                        records.into_iter().map(|((partition, _), (letter, _))| (partition, letter)).collect();
                    return Ok((letters, Some((last.0, RecordPosition { offset: last.1, fingerprint }))));
                }
                Err(error @ RecordLookupError::NoAnswer { .. }) => {
                    self.wait("kafka retry", &error.to_string(), None, false, &mut delays, batch).await?;
                }
                Err(error) => return Err(WriterError::NotReread(error)),
            }
        }
    }

    /// Writes a batch in one transaction, retrying until it commits. Returns newly refused rows, if there are any.
    /// Nothing is written then.
    async fn write_one(
        &mut self,
        batch: &mut Batch,
        refused: &[(i32, PendingDeadLetter)],
        repeats: &mut Repeats,
        began: Instant,
    ) -> Result<Option<Vec<RefusedRow>>, WriterError> {
        let mut progress = BatchProgress::new();
        loop {
            self.drop_what_is_not_owned(batch);
            if batch.parts.is_empty() {
                self.context.limiter.release(&mut progress.taken);
                return Ok(None);
            }
            self.probe.attempt_begins(progress.attempts);
            let error = match self.attempt(batch, refused, repeats, &mut progress).await {
                Ok(counts) => {
                    for (partition, part) in &batch.parts {
                        self.owned.committed(*partition, part.next_offset);
                    }
                    self.report_committed(batch, &counts, began.elapsed());
                    return Ok(None);
                }
                Err(error) => error,
            };
            let outcome = outcome(&error, repeats);
            match (progress.attempts.step(outcome), error) {
                (_, AttemptError::Conflict(settlements)) => self.settle(batch, &settlements, &mut progress, began),
                (_, AttemptError::Refused(rows)) => {
                    self.context.limiter.release(&mut progress.taken);
                    return Ok(Some(rows));
                }
                (Next::Retry(retry), error) => self.prepare(retry, &error, &mut progress, batch).await?,
                (_, AttemptError::DeadLetterLimitExceeded(exceeded)) => {
                    return Err(WriterError::DeadLetterLimitExceeded(exceeded));
                }
                (_, AttemptError::Failed(PhaseError { error, .. })) => {
                    return Err(WriterError::Postgres { target: self.context.target.to_string(), error });
                }
                (_, _) => return Err(self.abandoned(batch)),
            }
        }
    }

    /// Executes the settlement of partitions whose compare-and-set failed. Of those that are committed, the corrections
    /// of the counts are in PostgreSQL but unknown here.
    fn settle(
        &mut self,
        batch: &mut Batch,
        settlements: &BTreeMap<i32, Settlement>,
        progress: &mut BatchProgress,
        began: Instant,
    ) {
        let is_committed = |partition: i32| settlements.get(&partition) == Some(&Settlement::Committed);
        let committed = batch.take_parts(is_committed);
        if !committed.parts.is_empty() {
            // The committed dead letters keep their share of the allowance.
            progress.taken = 0;
            for (partition, part) in &committed.parts {
                self.owned.settled(*partition, part.next_offset);
            }
            self.report_committed(&committed, &session::counts(&committed, &BTreeMap::new()), began.elapsed());
        }
        for partition in settlements.keys().filter(|partition| !is_committed(**partition)) {
            self.moved(*partition);
        }
    }

    /// Prepares the next attempt.
    async fn prepare(
        &mut self,
        retry: Retry,
        error: &AttemptError,
        progress: &mut BatchProgress,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        if retry.new_session {
            self.session = None;
        }
        match retry.delay {
            Delay::None => Ok(()),
            Delay::Restart => {
                progress.delays = RETRY.delays();
                Ok(())
            }
            Delay::Backoff => {
                let (message, state) = error.described();
                // The next session has the present credentials. The source ends the run after the grace period.
                let refused = matches!(error, AttemptError::Failed(failed) if is_login_refusal(&failed.error));
                self.wait(POSTGRES, &message, state, refused, &mut progress.delays, batch).await
            }
        }
    }

    async fn attempt(
        &mut self,
        batch: &Batch,
        refused: &[(i32, PendingDeadLetter)],
        repeats: &Repeats,
        progress: &mut BatchProgress,
    ) -> Result<BTreeMap<i32, RecordCounts>, AttemptError> {
        let answers = Answers::new();
        let task = WriteRequest {
            batch,
            owned: &self.owned,
            refused,
            repeats,
            in_doubt: progress.attempts.in_doubt(),
            answers: &answers,
        };
        let context = &self.context;
        let session = &mut self.session;
        let work = async {
            let session = match session {
                Some(session) => session,
                none => {
                    let open = tokio::time::timeout(OPEN_LIMIT, Session::open(context));
                    none.insert(open.await.map_err(|_| AttemptError::NotOpened)??)
                }
            };
            session.write(&task, progress.attempts.mode(), &mut progress.taken).await
        };
        tokio::select! {
            done = answers.watch(ANSWER_LIMIT, TRANSACTION_LIMIT, work) => done.unwrap_or(Err(AttemptError::NoAnswer)),
            () = self.probe.timed_out() => Err(AttemptError::NoAnswer),
            () = self.give_up.cancelled() => Err(AttemptError::Abandoned),
        }
    }

    async fn wait(
        &self,
        message: &str,
        error: &str,
        state: Option<&SqlState>,
        refused: bool,
        delays: &mut Delays,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        let delay = delays.next_or_maximum();
        let sqlstate = state.map(SqlState::code);
        self.counters.add_retry(sqlstate);
        self.health.retrying(self.number, error, refused);
        tracing::warn!(error, sqlstate, delay_ms = delay.as_millis(), "{message}");
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.give_up.cancelled() => Err(self.abandoned(batch)),
        }
    }

    fn abandoned(&self, batch: &Batch) -> WriterError {
        WriterError::Abandoned { target: self.context.target.to_string(), records: batch.records() }
    }

    fn drop_what_is_not_owned(&self, batch: &mut Batch) {
        batch.retain(|partition, part| self.owned.may_write(partition, part.epoch));
    }

    fn report_committed(&self, batch: &Batch, counts: &BTreeMap<i32, RecordCounts>, took: Duration) {
        let offsets = batch.parts.iter().map(|(partition, part)| (*partition, part.next_offset)).collect();
        let parts: Vec<CommittedPart<'_>> = batch
            .parts
            .iter()
            .map(|(partition, part)| CommittedPart {
                partition: *partition,
                next_offset: part.next_offset,
                counts: counts.get(partition).copied().unwrap_or_default(),
                times: &part.times,
                reason_codes: part.dead_letters.iter().map(|one| one.letter.reason_code).collect(),
            })
            .collect();
        self.counters.add_batch(&parts, batch.opened, took);
        tracing::debug!(
            records = batch.records(),
            took_ms = took.as_millis(),
            age_ms = batch.opened.elapsed().as_millis(),
            "batch committed"
        );
        self.report(Report::Committed { offsets });
    }

    fn moved(&mut self, partition: i32) {
        if let Some(epoch) = self.owned.moved(partition) {
            self.counters.release(partition);
            tracing::warn!(partition, "offset moved by another consumer, in-flight records dropped");
            self.report(Report::Moved { partition, epoch });
        }
    }

    fn report(&self, report: Report) {
        // The receiver is gone once the source has ended. In-flight batches are committed nevertheless.
        let _ = self.reports.send(report);
    }
}

/// State of a batch over all attempts to commit it.
struct BatchProgress {
    attempts: Attempts,
    /// Share of the dead-letter allowance that the batch has taken.
    taken: u64,
    delays: Delays,
}

impl BatchProgress {
    fn new() -> Self {
        Self { attempts: Attempts::default(), taken: 0, delays: RETRY.delays() }
    }
}

/// Partition and dead letter of a refused row.
type Letter = (i32, DeadLetter);

/// Assigns each dead letter the index of its record in the batch.
fn numbered(batch: &Batch, letters: Vec<Letter>) -> Vec<(i32, PendingDeadLetter)> {
    let number = |(partition, letter): Letter| {
        let index = batch.index(partition, letter.offset);
        (partition, PendingDeadLetter { letter, index })
    };
    letters.into_iter().map(number).collect()
}

/// Log message of a retry.
const POSTGRES: &str = "postgres retry";

/// Retry policy for committing a batch and for reading its records again.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(50), Duration::from_secs(5));
