//! A writer: one session of PostgreSQL that brings the batches of its partitions in, one transaction each.

mod breaker;
mod command;
mod dead_letters;
mod error;
mod moves;
mod partitions;
mod plain_rows;
mod row_search;
mod suspects;
mod takeover;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::counters::{Counters, Tally};
use crate::health::Health;
use crate::offsets::{Claim, Position};
use crate::postgres::{SqlFault, Target, classify, describe};
use crate::source::{Reread, RereadError};
pub use breaker::{Breaker, Flood, Tolerance};
pub use command::{Command, Report};
pub use error::WriterError;
pub use plain_rows::{BroughtIn, PlainRows, PlainRowsError, Refusal};
use row_search::postgres_line;
use transaction::{Attempt, Means, Session, Way};

/// How long a transaction may take before its session is given up, and the one that searches for bad rows. The longest
/// wait in it, for a lock, is 30 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to open a session.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
const CAREFUL_LIMIT: Duration = Duration::from_mins(15);

/// How often a batch may meet an error that the next attempt should have removed.
const MOST_REPAIRS: u32 = 10;

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

    /// Brings a batch in, however often it has to be tried.
    async fn write(&mut self, mut batch: Batch) -> Result<(), WriterError> {
        let began = Instant::now();
        let mut way = Way::Direct;
        let mut in_doubt = false;
        let mut repairs = 0;
        let mut taken = 0;
        let mut delays = delays();
        loop {
            self.drop_what_is_not_owned(&mut batch);
            if batch.parts.is_empty() {
                self.means.breaker.give_back(&mut taken);
                return Ok(());
            }
            let attempt = match self.attempt(&batch, way, in_doubt, &mut taken).await {
                Ok(tallies) => {
                    self.committed(&batch, &tallies, began.elapsed());
                    return Ok(());
                }
                Err(attempt) => attempt,
            };
            match attempt {
                Attempt::Moved(partition) => self.moved(partition),
                Attempt::Abandoned => return Err(self.abandoned(&batch)),
                Attempt::Flood(flood) => return Err(WriterError::Flood(flood)),
                Attempt::NotReread(error @ RereadError::NoAnswer { .. }) => {
                    self.wait(&error.to_string(), None, &mut delays, &batch).await?;
                }
                Attempt::NotReread(error) => return Err(WriterError::NotReread(error)),
                Attempt::NotOpened => self.wait("no session", None, &mut delays, &batch).await?,
                Attempt::NoAnswer => {
                    in_doubt = true;
                    self.session = None;
                    self.wait("no answer", None, &mut delays, &batch).await?;
                }
                Attempt::Failed { error, at_commit } => match classify(&error) {
                    fault @ (SqlFault::Duplicate | SqlFault::PerRow) if repairs < MOST_REPAIRS => {
                        let line = if fault == SqlFault::PerRow { postgres_line(&error) } else { None };
                        way = Way::Careful { suspected: line.and_then(|line| batch.in_key_order().origin(line)) };
                        repairs += 1;
                    }
                    SqlFault::NoPartition if repairs < MOST_REPAIRS => {
                        self.session = None;
                        repairs += 1;
                    }
                    SqlFault::Retry => {
                        in_doubt |= at_commit;
                        self.session = None;
                        self.wait(&describe(&error), error.code(), &mut delays, &batch).await?;
                    }
                    _ => return Err(WriterError::Postgres { target: self.means.target.to_string(), error }),
                },
            }
        }
    }

    async fn attempt(
        &mut self,
        batch: &Batch,
        way: Way,
        in_doubt: bool,
        taken: &mut u64,
    ) -> Result<BTreeMap<i32, Tally>, Attempt> {
        let limit = if way == Way::Direct { ANSWER_LIMIT } else { CAREFUL_LIMIT };
        let (means, owned) = (&self.means, &self.owned);
        let session = &mut self.session;
        let work = async {
            let session = match session {
                Some(session) => session,
                none => {
                    let open = tokio::time::timeout(OPEN_LIMIT, Session::open(means));
                    none.insert(open.await.map_err(|_| Attempt::NotOpened)??)
                }
            };
            session.write(batch, owned, way, in_doubt, taken).await
        };
        tokio::select! {
            done = tokio::time::timeout(limit, work) => done.unwrap_or(Err(Attempt::NoAnswer)),
            () = self.give_up.cancelled() => Err(Attempt::Abandoned),
        }
    }

    async fn wait(
        &self,
        error: &str,
        state: Option<&SqlState>,
        delays: &mut impl Iterator<Item = Duration>,
        batch: &Batch,
    ) -> Result<(), WriterError> {
        let delay = delays.next().unwrap_or(LONGEST_DELAY);
        let sqlstate = state.map(SqlState::code);
        self.counters.add_retry(sqlstate);
        self.health.retrying(self.number, error);
        tracing::warn!(error, sqlstate, delay_ms = delay.as_millis(), "postgres retry");
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

const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// 50 ms, doubled up to five seconds, with jitter, for ever.
fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_DELAY)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}
