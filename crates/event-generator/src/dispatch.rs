//! The thread that hands events out, in the order of their indices, when they are due.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_source::Source;
use lake::End;
use thiserror::Error;

use crate::block::{Block, Form, Record};
use crate::ending::Ending;
use crate::kafka_sink::{KafkaSink, KafkaSinkError, Offered};
use crate::lake_sink::{Fed, LakeFeed};
use crate::lateness::Lateness;
use crate::makers::{MakerGone, Makers};
use crate::schedule::{Clock, Pace};
use crate::tally::{BlockCounts, Tally};

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
    /// Whether to end.
    pub ending: Ending,
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
    /// Whether the lake was told of all events.
    pub lake_knows: bool,
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
    /// The lake failed, and says why on its own.
    #[error("the lake failed")]
    Lake,
}

/// The end was asked for in the middle of something.
struct Cut;

type Step<T> = Result<Result<T, Cut>, DispatchError>;

impl Dispatch {
    /// Hands out all events, or those before the end that is asked for, and waits until Kafka has them.
    pub fn run(mut self) -> Result<Dispatched, DispatchError> {
        let mut state =
            State { lateness: Lateness::default(), since_reports: 0, now: self.clock.micros(), behind: false };
        let mut next_index = 0;
        let mut end = End::CountReached;
        while let Some(block) = self.makers.next_block()? {
            let start = block.range.start;
            next_index = self.hand_out(&block, &mut state)?;
            if next_index == block.range.end {
                self.tally.add(next_index, block.counts);
            } else {
                self.tally.add(next_index, BlockCounts::of(&self.source, start..next_index));
            }
            if next_index < block.range.end || self.feed(LakeFeed::advance, next_index)?.is_err() {
                end = End::Stopped;
                break;
            }
        }
        let unacknowledged = self.flush()?;
        let lake_knows = unacknowledged == 0 && self.feed(LakeFeed::finish, next_index)?.is_ok();
        Ok(Dispatched { end, lateness: state.lateness, unacknowledged, lake_knows })
    }

    /// The index after the last one that was handed out.
    fn hand_out(&self, block: &Block, state: &mut State) -> Result<u64, DispatchError> {
        for record in &block.records {
            if self.ending.asked() || self.wait_until(record.due, state)?.is_err() {
                return Ok(record.index);
            }
            if self.send(block, record, state)?.is_err() {
                return Ok(record.index);
            }
        }
        // An event without a record is handed out when the next one is, or the block ends.
        let last = self.source.due(block.range.end - 1).micros();
        if self.ending.asked() || self.wait_until(last, state)?.is_err() {
            let next = block.records.last().map_or(block.range.start, |record| record.index + 1);
            return Ok(next);
        }
        Ok(block.range.end)
    }

    /// Waits until an event is due, and notes how late it is then.
    fn wait_until(&self, due: i64, state: &mut State) -> Step<()> {
        if self.pace == Pace::Max {
            return Ok(Ok(()));
        }
        while due > state.now {
            state.now = self.clock.micros();
            let Ok(early @ 1..) = u64::try_from(due - state.now) else { break };
            if self.ending.asked() {
                return Ok(Err(Cut));
            }
            if self.lake.as_ref().is_some_and(LakeFeed::is_closed) {
                return Err(DispatchError::Lake);
            }
            self.serve(Duration::ZERO, state)?;
            thread::sleep(NAP.min(Duration::from_micros(early)));
        }
        let late = state.now - due;
        state.lateness.note(late);
        if (late > BEHIND_MICROS) != state.behind {
            state.behind = !state.behind;
            tracing::warn!(behind = state.behind, late_ms = late / 1_000, "schedule");
        }
        Ok(Ok(()))
    }

    fn send(&self, block: &Block, record: &Record, state: &mut State) -> Step<()> {
        let Some(kafka) = &self.kafka else { return Ok(Ok(())) };
        let (key, value) = (block.key(record), block.value(record));
        let copies = if record.form == Form::Twice { 2 } else { 1 };
        for copy in 0..copies {
            while kafka.offer(record.index, key, value, record.form == Form::Marked)? == Offered::Full {
                self.serve(ROOM, state)?;
                // Between two copies there is no end: an event is sent whole or not at all.
                if (self.ending.asked() && copy == 0) || self.ending.over() {
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
    lateness: Lateness,
    since_reports: u32,
    /// The time when it was read last: reading it for each record would cost too much.
    now: i64,
    behind: bool,
}
