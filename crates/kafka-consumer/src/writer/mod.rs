//! A writer: one session of PostgreSQL that brings the batches of its partitions in, one transaction each.

mod breaker;
mod command;
mod dead_letters;
mod error;
mod lookup;
mod moves;
mod partitions;
mod plain_rows;
mod refusals;
mod row_search;
mod suspects;
mod takeover;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retry_policy::{Delays, RetryPolicy};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Mark, Refused};
use crate::counters::{Counters, Tally};
use crate::dead_letter::DeadLetter;
use crate::fingerprint;
use crate::health::Health;
use crate::offsets::{Claim, Position};
use crate::postgres::{Phase, PhaseError, Repeats, SqlFault, Target, describe};
use crate::source::{Reread, RereadError};
pub use breaker::{Breaker, Flood, Tolerance};
pub use command::{Command, Report};
pub use error::WriterError;
pub use plain_rows::{BroughtIn, PlainRows, PlainRowsError, Refusal};
use refusals::{Refusals, RefusedRow};
use transaction::{Attempt, Means, Session, Task, Way};

/// How long a transaction may take before its session is given up, and the one that searches for bad rows. The longest
/// wait in it, for a lock, is 30 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to open a session.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
const CAREFUL_LIMIT: Duration = Duration::from_mins(15);

/// How often a batch may meet an error that the next attempt should have removed.
const MOST_REPAIRS: u32 = 10;

/// Maximum number of refused rows per transaction. A batch with more of them is written in several, one after the other:
/// that bounds the memory for their records and keeps the progress.
const REFUSED_AT_ONCE: usize = 256;

/// What a writer needs to know, besides its commands.
#[derive(Clone)]
pub struct Setting {
    /// The warehouse.
    pub target: Target,
    /// Whose offsets.
    pub claim: Claim,
    /// Which of the writers it is.
    pub number: usize,
    /// Where committed batches are counted.
    pub counters: Arc<Counters>,
    /// Told how it goes.
    pub health: Arc<Health>,
    /// How many dead letters are borne, by all writers together.
    pub breaker: Breaker,
    /// Where records are read once more.
    pub reread: Reread,
    /// Cancelled when an outage is no longer waited out.
    pub give_up: CancellationToken,
}

/// A partition that a writer owns.
#[derive(Clone, Copy, Debug)]
struct Owned {
    epoch: u64,
    position: Position,
}

/// One session and the partitions that it owns. No other session of this process moves their offsets.
pub struct Writer {
    means: Means,
    number: usize,
    counters: Arc<Counters>,
    health: Arc<Health>,
    give_up: CancellationToken,
    reports: mpsc::UnboundedSender<Report>,
    session: Option<Session>,
    owned: BTreeMap<i32, Owned>,
}

impl Writer {
    /// A writer without any partitions yet.
    #[must_use]
    pub fn new(setting: Setting, reports: mpsc::UnboundedSender<Report>) -> Self {
        let Setting { target, claim, number, breaker, reread, counters, health, give_up } = setting;
        let means = Means { target, claim, breaker, reread };
        Self { means, number, counters, health, give_up, reports, session: None, owned: BTreeMap::new() }
    }

    /// Does what it is told until nobody is left to tell it anything.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), WriterError> {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Own { partition, epoch, position } => {
                    self.owned.insert(partition, Owned { epoch, position });
                    self.counters.owns(partition, position.next_offset);
                }
                Command::Release { partitions, done } => {
                    for partition in partitions {
                        if self.owned.remove(&partition).is_some() {
                            self.counters.lets_go(partition);
                        }
                    }
                    // Whoever asked may have given up waiting.
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

    /// Writes a batch, with as many attempts as it takes. Rows that PostgreSQL refuses are read from Kafka again and
    /// become dead letters; where there are many, a prefix of the batch is written before the rest.
    async fn write(&mut self, batch: Batch) -> Result<(), WriterError> {
        let began = Instant::now();
        let mut todo = vec![batch];
        let mut refusals = Refusals::default();
        let mut repeats = Repeats::default();
        while let Some(mut batch) = todo.pop() {
            self.drop_what_is_not_owned(&mut batch);
            let chosen = refusals.take_first(&batch, REFUSED_AT_ONCE);
            let (letters, last) = self.read_again(&chosen, &batch).await?;
            if let (Some((partition, last)), true) = (last, refusals.has_any_of(&batch)) {
                let first = batch.take_up_to(partition, last);
                todo.push(std::mem::replace(&mut batch, first));
            }
            let refused = in_place(&batch, letters);
            if let Some(found) = self.write_one(&mut batch, &refused, &mut repeats, began).await? {
                refusals.add(chosen);
                refusals.add(found);
                todo.push(batch);
            }
        }
        Ok(())
    }

    /// Reads the records of refused rows again, outside any transaction. Returns the dead letters that they become, and
    /// where the last one stands.
    async fn read_again(
        &self,
        rows: &[RefusedRow],
        batch: &Batch,
    ) -> Result<(Vec<Letter>, Option<(i32, Mark)>), WriterError> {
        let Some(last) = rows.last() else { return Ok((Vec::new(), None)) };
        let last = (last.partition, last.offset);
        let mut delays = RETRY.delays();
        loop {
            let wanted = rows.iter().map(|row| ((row.partition, row.offset), row.clone())).collect();
            let reading = self.means.reread.records(wanted, |record, row: RefusedRow| {
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
                    return Ok((letters, Some((last.0, Mark { offset: last.1, fingerprint }))));
                }
                Err(error @ RereadError::NoAnswer { .. }) => {
                    self.wait("kafka retry", &error.to_string(), None, &mut delays, batch).await?;
                }
                Err(error) => return Err(WriterError::NotReread(error)),
            }
        }
    }

    /// Writes a batch in one transaction. Returns the rows that PostgreSQL refuses, if it refuses any that are not known
    /// yet; nothing is written then.
    async fn write_one(
        &mut self,
        batch: &mut Batch,
        refused: &[(i32, Refused)],
        repeats: &mut Repeats,
        began: Instant,
    ) -> Result<Option<Vec<RefusedRow>>, WriterError> {
        let mut course = Course::new();
        loop {
            self.drop_what_is_not_owned(batch);
            if batch.parts.is_empty() {
                self.means.breaker.give_back(&mut course.taken);
                return Ok(None);
            }
            match self.attempt(batch, refused, repeats, &mut course).await {
                Ok(tallies) => {
                    self.committed(batch, &tallies, began.elapsed());
                    return Ok(None);
                }
                Err(Attempt::Refused(rows)) => {
                    self.means.breaker.give_back(&mut course.taken);
                    return Ok(Some(rows));
                }
                Err(Attempt::Moved(partition)) => self.moved(partition),
                Err(Attempt::Abandoned) => return Err(self.abandoned(batch)),
                Err(Attempt::Flood(flood)) => return Err(WriterError::Flood(flood)),
                Err(Attempt::Suppressed) => course.way = Way::Careful { in_pieces: false },
                Err(Attempt::NotOpened) => self.wait(POSTGRES, "no session", None, &mut course.delays, batch).await?,
                Err(Attempt::NoAnswer) => {
                    course.in_doubt = true;
                    self.session = None;
                    self.wait(POSTGRES, "no answer", None, &mut course.delays, batch).await?;
                }
                Err(Attempt::NoContrast(error)) => self.wait_out(&error, &mut course, batch).await?,
                Err(Attempt::Failed(failed)) => self.recover(failed, repeats, &mut course, batch).await?,
            }
        }
    }

    /// Prepares the next attempt after an error of PostgreSQL, or gives up.
    async fn recover(
        &mut self,
        failed: PhaseError,
        repeats: &mut Repeats,
        course: &mut Course,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        match repeats.note(&failed) {
            SqlFault::Row if course.repairs < MOST_REPAIRS => {
                let is_duplicate = failed.error.code() == Some(&SqlState::UNIQUE_VIOLATION);
                course.way = Way::Careful { in_pieces: !is_duplicate };
                // The next error is another row's, whose attempts begin with the shortest delay again.
                course.delays = RETRY.delays();
                course.repairs += 1;
                Ok(())
            }
            SqlFault::NoPartition if course.repairs < MOST_REPAIRS => {
                self.session = None;
                course.repairs += 1;
                Ok(())
            }
            SqlFault::Retry => {
                course.in_doubt |= failed.phase == Phase::Commit;
                self.wait_out(&failed.error, course, batch).await
            }
            _ => Err(WriterError::Postgres { target: self.means.target.to_string(), error: failed.error }),
        }
    }

    async fn wait_out(
        &mut self,
        error: &tokio_postgres::Error,
        course: &mut Course,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        self.session = None;
        self.wait(POSTGRES, &describe(error), error.code(), &mut course.delays, batch).await
    }

    async fn attempt(
        &mut self,
        batch: &Batch,
        refused: &[(i32, Refused)],
        repeats: &Repeats,
        course: &mut Course,
    ) -> Result<BTreeMap<i32, Tally>, Attempt> {
        let direct = course.way == Way::Direct && refused.is_empty();
        let limit = if direct { ANSWER_LIMIT } else { CAREFUL_LIMIT };
        let task = Task { batch, owned: &self.owned, refused, repeats, in_doubt: course.in_doubt };
        let means = &self.means;
        let session = &mut self.session;
        let work = async {
            let session = match session {
                Some(session) => session,
                none => {
                    let open = tokio::time::timeout(OPEN_LIMIT, Session::open(means));
                    none.insert(open.await.map_err(|_| Attempt::NotOpened)??)
                }
            };
            session.write(&task, course.way, &mut course.taken).await
        };
        tokio::select! {
            done = tokio::time::timeout(limit, work) => done.unwrap_or(Err(Attempt::NoAnswer)),
            () = self.give_up.cancelled() => Err(Attempt::Abandoned),
        }
    }

    async fn wait(
        &self,
        message: &str,
        error: &str,
        state: Option<&SqlState>,
        delays: &mut Delays,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        let delay = delays.next_or_maximum();
        let sqlstate = state.map(SqlState::code);
        self.counters.add_retry(sqlstate);
        self.health.retrying(self.number, error);
        tracing::warn!(error, sqlstate, delay_ms = delay.as_millis(), "{message}");
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.give_up.cancelled() => Err(self.abandoned(batch)),
        }
    }

    fn abandoned(&self, batch: &Batch) -> WriterError {
        WriterError::Abandoned { target: self.means.target.to_string(), records: batch.records() }
    }

    fn drop_what_is_not_owned(&self, batch: &mut Batch) {
        batch.retain(|partition, part| self.owned.get(&partition).is_some_and(|owned| owned.epoch == part.epoch));
    }

    fn committed(&mut self, batch: &Batch, tallies: &BTreeMap<i32, Tally>, took: Duration) {
        let mut offsets = Vec::with_capacity(batch.parts.len());
        for (partition, part) in &batch.parts {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.position.next_offset = part.next_offset;
            }
            offsets.push((*partition, part.next_offset));
        }
        self.counters.add_batch(batch, tallies, took);
        tracing::debug!(
            records = batch.records(),
            took_ms = took.as_millis(),
            age_ms = batch.opened.elapsed().as_millis(),
            "batch committed"
        );
        self.report(Report::Committed { offsets });
    }

    fn moved(&mut self, partition: i32) {
        if let Some(Owned { epoch, .. }) = self.owned.remove(&partition) {
            self.counters.lets_go(partition);
            tracing::warn!(partition, "offset moved by another consumer; its records in hand are dropped");
            self.report(Report::Moved { partition, epoch });
        }
    }

    fn report(&self, report: Report) {
        // The source has ended when it no longer listens; what is in hand is brought in all the same.
        let _ = self.reports.send(report);
    }
}

/// State of a transaction over all attempts to commit it.
struct Course {
    way: Way,
    /// An earlier attempt may have committed.
    in_doubt: bool,
    repairs: u32,
    /// Accepted dead letters that it has taken.
    taken: u64,
    delays: Delays,
}

impl Course {
    fn new() -> Self {
        Self { way: Way::Direct, in_doubt: false, repairs: 0, taken: 0, delays: RETRY.delays() }
    }
}

/// Partition and dead letter of a refused row.
type Letter = (i32, DeadLetter);

/// Gives each dead letter its place among the batch's records.
fn in_place(batch: &Batch, letters: Vec<Letter>) -> Vec<(i32, Refused)> {
    let place = |(partition, letter): Letter| {
        let place = batch.place(partition, letter.offset);
        (partition, Refused { letter, place })
    };
    letters.into_iter().map(place).collect()
}

/// Log message for a new attempt.
const POSTGRES: &str = "postgres retry";

/// Policy of committing a batch, and of reading records again for it.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(50), Duration::from_secs(5));
