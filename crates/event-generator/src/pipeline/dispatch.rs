//! The thread that hands events out, in the order of their indices, when they are due.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lake::{Counts, End};
use thiserror::Error;
use workload::Source;

use crate::observability::endpoints::Site;
use crate::observability::lateness::Lateness;
use crate::pipeline::block::{Block, Form, Record};
use crate::pipeline::block_counts::{BlockCounts, Tally};
use crate::pipeline::block_plan::{Clock, Pace};
use crate::pipeline::workers::{MakerGone, Makers};
use crate::run_state::{Allowance, Checkpoints, Failed, Handed, Sealed};
use crate::shutdown::Ending;
use crate::sinks::kafka::{KafkaSink, KafkaSinkError, Offered};
use crate::sinks::lake::{Fed, LakeFeed};

/// Delivery reports are taken in after so many records at the latest.
const RECORDS_BETWEEN_REPORTS: u32 = 512;
/// While nothing is due, the longest time between two looks at reports and at the end that was asked for.
const NAP: Duration = Duration::from_millis(5);
/// The time that a full queue is given to make room before it is tried again.
const ROOM: Duration = Duration::from_millis(1);
/// So late, the run is called behind its schedule, in the log.
const BEHIND_MICROS: i64 = 1_000_000;

/// All that the thread needs.
pub struct Dispatch {
    /// For when events are due.
    pub source: Arc<Source>,
    /// Where blocks come from.
    pub makers: Makers,
    /// Whether to wait until events are due.
    pub pace: Pace,
    /// The time.
    pub clock: Clock,
    /// Where records go.
    pub kafka: Option<KafkaSink>,
    /// Who is told how far it is.
    pub lake: Option<LakeFeed>,
    /// Where events are counted.
    pub tally: Arc<Tally>,
    /// Where it begins, and what it owes.
    pub start: Start,
    /// How far it may go.
    pub allowance: Allowance,
    /// Who is told of segments that are handed out.
    pub checkpoints: Arc<Checkpoints>,
    /// Who is told how late events are.
    pub site: Arc<Site>,
    /// Whether to end.
    pub ending: Ending,
}

/// Where a run begins: at index 0, or after what is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first index.
    pub first: u64,
    /// Before this index there is no end, whoever asks for it: these events may have been sent already.
    pub owed: u64,
    /// Why it ends where its indices do.
    pub end: End,
    /// Indices of a segment.
    pub segment_indices: u64,
}

/// How the thread ended.
#[derive(Debug)]
pub struct Dispatched {
    /// Why.
    pub end: End,
    /// How late events were; none were due at any time in a backfill.
    pub lateness: Lateness,
    /// Records that Kafka has not acknowledged, for lack of time. Then the last segment is left unwritten.
    pub unacknowledged: u64,
    /// Whether the end is written down and the lake was told of all events.
    pub stored: bool,
}

/// Why the thread could not go on.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaSinkError),
    /// A thread that makes events.
    #[error(transparent)]
    Maker(#[from] MakerGone),
    /// The run's state can't be written, and its keeper says why.
    #[error("the run's state can't be kept")]
    State,
    /// The lake failed, and says why on its own.
    #[error("the lake failed")]
    Lake,
}

impl From<Failed> for DispatchError {
    fn from(_: Failed) -> Self {
        Self::State
    }
}

/// The end was asked for in the middle of something.
struct Cut;

type Step<T> = Result<Result<T, Cut>, DispatchError>;

impl Dispatch {
    /// Hands out all events, or those before the end that is asked for, and waits until Kafka has them.
    pub fn run(mut self) -> Result<Dispatched, DispatchError> {
        let mut state = State::new(self.clock.micros());
        let mut next_index = self.start.first;
        let mut end = self.start.end;
        while let Some(block) = self.makers.next_block()? {
            next_index = self.hand_out(&block, &mut state)?;
            self.count(&block, next_index, &mut state);
            if next_index < block.range.end || self.feed(LakeFeed::advance, next_index)?.is_err() {
                end = End::Stopped;
                break;
            }
        }
        let unacknowledged = self.flush()?;
        let whole = unacknowledged == 0 && self.seal(Sealed { next_index, end })?.is_ok();
        if whole && !next_index.is_multiple_of(self.start.segment_indices) {
            self.checkpoint(next_index, &mut state);
        }
        let lake_knows = whole && self.feed(LakeFeed::finish, next_index)?.is_ok();
        Ok(Dispatched { end, lateness: state.lateness, unacknowledged, stored: lake_knows })
    }

    /// Counts a block as far as it was handed out, and what it completes.
    fn count(&self, block: &Block, next_index: u64, state: &mut State) {
        let counts = if next_index == block.range.end {
            block.counts.clone().into_counts()
        } else {
            BlockCounts::of(&self.source, block.range.start..next_index).into_counts()
        };
        self.tally.add(next_index, &counts);
        state.segment.merge(&counts);
        if next_index.is_multiple_of(self.start.segment_indices) && next_index > block.range.start {
            self.checkpoint(next_index, state);
        }
    }

    /// Says that a segment is handed out, or what there is of the last one.
    fn checkpoint(&self, next_index: u64, state: &mut State) {
        let counts = std::mem::take(&mut state.segment);
        if next_index > self.start.first {
            let segment = (next_index - 1) / self.start.segment_indices;
            let records = counts.expected_counts().kafka_records;
            self.checkpoints.push(Handed { segment, next_index, records, counts });
        }
    }

    /// Whether the end is asked for and may be before this index.
    fn may_end(&self, index: u64) -> bool {
        self.ending.over() || (index >= self.start.owed && self.ending.asked())
    }

    /// The index after the last one that was handed out.
    fn hand_out(&self, block: &Block, state: &mut State) -> Result<u64, DispatchError> {
        if self.wait_for_allowance(block, state)?.is_err() {
            return Ok(block.range.start);
        }
        for record in &block.records {
            if self.may_end(record.index) || self.wait_until(record.due, record.index, state)?.is_err() {
                return Ok(record.index);
            }
            if self.send(block, record, state)?.is_err() {
                return Ok(record.index);
            }
        }
        // An event without a record is handed out when the next one is, or the block ends.
        let last = self.source.due(block.range.end - 1).micros();
        let next = block.records.last().map_or(block.range.start, |record| record.index + 1);
        if self.may_end(next) || self.wait_until(last, next, state)?.is_err() {
            return Ok(next);
        }
        Ok(block.range.end)
    }

    /// Waits until the run's state says that the block may be sent.
    fn wait_for_allowance(&self, block: &Block, state: &mut State) -> Step<()> {
        while !self.allowance.covers(&block.range)? {
            if self.may_end(block.range.start) {
                return Ok(Err(Cut));
            }
            self.rest(state)?;
        }
        Ok(Ok(()))
    }

    /// Waits until it is written down where the run ends: only then may its last segment, which is shorter, be stored.
    fn seal(&self, sealed: Sealed) -> Step<()> {
        while !self.allowance.sealed(sealed)? {
            if self.ending.over() {
                return Ok(Err(Cut));
            }
            thread::sleep(ROOM);
        }
        Ok(Ok(()))
    }

    /// A moment in which somebody else gets on.
    fn rest(&self, state: &mut State) -> Result<(), DispatchError> {
        if self.kafka.is_none() {
            thread::sleep(ROOM);
        }
        self.serve(ROOM, state)
    }

    /// Waits until an event is due, and notes how late it is then.
    fn wait_until(&self, due: i64, index: u64, state: &mut State) -> Step<()> {
        if self.pace == Pace::Max {
            return Ok(Ok(()));
        }
        while due > state.now {
            state.now = self.clock.micros();
            let Ok(early @ 1..) = u64::try_from(due - state.now) else { break };
            state.caught_up = true;
            if self.may_end(index) {
                return Ok(Err(Cut));
            }
            if self.lake.as_ref().is_some_and(LakeFeed::is_closed) {
                return Err(DispatchError::Lake);
            }
            self.serve(Duration::ZERO, state)?;
            thread::sleep(NAP.min(Duration::from_micros(early)));
        }
        if self.pace == Pace::ThenLive && !state.caught_up {
            return Ok(Ok(()));
        }
        let late = state.now - due;
        state.lateness.note(late);
        self.site.handed_over(late);
        if (late > BEHIND_MICROS) != state.behind {
            state.behind = !state.behind;
            tracing::warn!(behind = state.behind, late_ms = late / 1_000, "schedule");
        }
        Ok(Ok(()))
    }

    fn send(&self, block: &Block, record: &Record, state: &mut State) -> Step<()> {
        let Some(kafka) = &self.kafka else { return Ok(Ok(())) };
        let copies = if record.form == Form::Twice { 2 } else { 1 };
        for copy in 0..copies {
            let (key, value) = if copy == 0 { (block.key(record), block.value(record)) } else { block.copy(record) };
            while kafka.offer(record.index, key, value, record.form == Form::Marked)? == Offered::Full {
                self.serve(ROOM, state)?;
                // Between two copies there is no end: an event is sent whole or not at all.
                if (copy == 0 && self.may_end(record.index)) || self.ending.over() {
                    return Ok(Err(Cut));
                }
            }
        }
        state.since_reports += 1;
        if state.since_reports >= RECORDS_BETWEEN_REPORTS {
            self.serve(Duration::ZERO, state)?;
        }
        Ok(Ok(()))
    }

    fn serve(&self, time: Duration, state: &mut State) -> Result<(), DispatchError> {
        state.since_reports = 0;
        state.now = self.clock.micros();
        Ok(self.kafka.as_ref().map_or(Ok(()), |kafka| kafka.serve(time))?)
    }

    /// Tells the lake how far it is, and waits while it is full.
    fn feed(&mut self, tell: fn(&mut LakeFeed, u64) -> Fed, next_index: u64) -> Step<()> {
        let Some(lake) = &mut self.lake else { return Ok(Ok(())) };
        loop {
            match tell(lake, next_index) {
                Fed::Taken => return Ok(Ok(())),
                Fed::Closed => return Err(DispatchError::Lake),
                Fed::Full if self.ending.over() => return Ok(Err(Cut)),
                Fed::Full => match &self.kafka {
                    Some(kafka) => kafka.serve(ROOM)?,
                    None => thread::sleep(ROOM),
                },
            }
        }
    }

    /// Waits until Kafka has all records. The number of those that it has not when the time is over.
    fn flush(&self) -> Result<u64, DispatchError> {
        let begun = Instant::now();
        let open = self.kafka.as_ref().map_or(Ok(0), |kafka| kafka.flush(|| self.ending.over()))?;
        tracing::debug!(seconds = begun.elapsed().as_secs_f64(), open, "kafka flushed");
        Ok(open)
    }
}

struct State {
    /// What is handed out of the segment that is not complete.
    segment: Counts,
    lateness: Lateness,
    since_reports: u32,
    /// The time when it was read last: reading it for each record would cost too much.
    now: i64,
    behind: bool,
    /// Whether the schedule has reached the present.
    caught_up: bool,
}

impl State {
    fn new(now: i64) -> Self {
        Self {
            segment: Counts::default(),
            lateness: Lateness::default(),
            since_reports: 0,
            now,
            behind: false,
            caught_up: false,
        }
    }
}
