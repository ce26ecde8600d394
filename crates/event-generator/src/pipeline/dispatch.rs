//! The thread that sends events, in the order of their indices, when they are due.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lake::End;
use pipeline_runtime::shutdown::ShutdownDeadline;
use thiserror::Error;
use workload::Source;

use super::block::{Block, Record, RecordForm};
use super::block_counts::BlockCounts;
use super::schedule::Schedule;
use super::workers::{WorkerGone, Workers};
use crate::clock::{Clock, Pace};
use crate::observability::{HttpEndpoints, RunCounts};
use crate::run_state::{CheckpointFailed, PendingBlock, PendingBlocks, Reservation, RunEnd};
use crate::sinks::kafka::{EnqueueStatus, KafkaSink, KafkaSinkError, RecordTag};
use crate::sinks::lake::{SegmentFeed, SendStatus};

/// Maximum number of records between two polls for delivery reports.
const RECORDS_BETWEEN_POLLS: u32 = 512;
/// Maximum sleep while no event is due. Between sleeps the thread polls and checks for a shutdown.
const MAX_SLEEP: Duration = Duration::from_millis(5);
/// Pause before a full queue is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Sends the blocks of the workers to the sinks.
pub(super) struct Dispatcher {
    /// Source of due times.
    pub(super) source: Arc<Source>,
    pub(super) workers: Workers,
    pub(super) pace: Pace,
    pub(super) clock: Clock,
    pub(super) kafka: Option<KafkaSink>,
    pub(super) lake: Option<SegmentFeed>,
    pub(super) counts: Arc<RunCounts>,
    pub(super) start: StartPosition,
    pub(super) reservation: Reservation,
    pub(super) pending: Arc<PendingBlocks>,
    pub(super) endpoints: Arc<HttpEndpoints>,
    pub(super) shutdown: ShutdownDeadline,
}

/// Start of a run: index 0, or the end of the acknowledged prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartPosition {
    pub(super) first_index: u64,
    /// Minimum end of the run, even on request: the events before it may have been sent already.
    pub(super) min_end: u64,
    /// Reason that the manifest gives if all blocks are sent.
    pub(super) end_reason: End,
}

/// Result of the dispatcher.
#[derive(Debug)]
pub(super) struct Dispatched {
    pub(super) end_reason: End,
    /// Number of records that Kafka did not acknowledge in time. If there are any, the last segment is not written.
    pub(super) unacknowledged: u64,
    /// True if the run's end is on disk and the lake received all segments.
    pub(super) complete: bool,
}

/// An error that stops the dispatcher.
#[derive(Debug, Error)]
pub(super) enum DispatchError {
    #[error(transparent)]
    Kafka(#[from] KafkaSinkError),
    #[error(transparent)]
    Worker(#[from] WorkerGone),
    /// The checkpointer returns the error.
    #[error("cannot write the run's state")]
    State,
    /// The lake's task returns the error.
    #[error("cannot write to the lake")]
    Lake,
}

impl From<CheckpointFailed> for DispatchError {
    fn from(_: CheckpointFailed) -> Self {
        Self::State
    }
}

/// A shutdown interrupted a step.
struct Interrupted;

type Step<T> = Result<Result<T, Interrupted>, DispatchError>;

/// State of the dispatcher between two records.
struct Progress {
    schedule: Schedule,
    /// Number of the block, from 0.
    block: u64,
    /// Number of its records in the queue of the Kafka client or delivered.
    records: u64,
    records_since_poll: u32,
}

impl Dispatcher {
    /// Sends all events, or those up to a requested shutdown, and waits until Kafka has acknowledged them.
    pub(super) fn run(mut self) -> Result<Dispatched, DispatchError> {
        let schedule = Schedule::new(self.pace, self.clock);
        let mut progress = Progress { schedule, block: 0, records: 0, records_since_poll: 0 };
        let mut next_index = self.start.first_index;
        let mut end_reason = self.start.end_reason;
        // The lake of a resumed run may lack segments that Kafka has.
        let mut stopped = self.update_lake(SegmentFeed::advance, next_index)?.is_err();
        while !stopped && let Some(block) = self.workers.next_block()? {
            progress.records = 0;
            next_index = self.send_block(&block, &mut progress)?;
            self.count_block(&block, next_index, &progress);
            progress.block += 1;
            stopped = next_index < block.range.end || self.update_lake(SegmentFeed::advance, next_index)?.is_err();
        }
        if stopped {
            end_reason = End::Stopped;
        }
        let unacknowledged = self.flush()?;
        // An earlier process may have sent the events before the minimum end, so the run cannot end before it.
        let acknowledged = unacknowledged == 0 && next_index >= self.start.min_end;
        // The end is written before the last, possibly shorter segment is stored: a resumed run must end there too.
        let end_saved = acknowledged && self.save_end(RunEnd { next_index, reason: end_reason })?.is_ok();
        let complete = end_saved && self.update_lake(SegmentFeed::finish, next_index)?.is_ok();
        Ok(Dispatched { end_reason, unacknowledged, complete })
    }

    /// Counts the events of a block that were sent, and passes them on to the checkpointer.
    fn count_block(&self, block: &Block, next_index: u64, progress: &Progress) {
        if next_index == block.range.start {
            return;
        }
        let counts = if next_index == block.range.end {
            block.counts.clone().into_counts()
        } else {
            BlockCounts::of(&self.source, block.range.start..next_index).into_counts()
        };
        self.counts.add(next_index, &counts);
        self.pending.push(PendingBlock { number: progress.block, next_index, records: progress.records, counts });
    }

    /// Returns true if a shutdown is requested and the run may end before this index.
    fn may_stop(&self, index: u64) -> bool {
        self.shutdown.is_over() || (index >= self.start.min_end && self.shutdown.is_requested())
    }

    /// Sends the records of a block. Returns the index after the last event sent.
    fn send_block(&self, block: &Block, progress: &mut Progress) -> Result<u64, DispatchError> {
        if self.wait_for_reservation(block, progress)?.is_err() {
            return Ok(block.range.start);
        }
        for record in &block.records {
            if self.may_stop(record.index) || self.wait_until_due(record.due, record.index, progress)?.is_err() {
                return Ok(record.index);
            }
            if self.send_record(block, record, progress)?.is_err() {
                return Ok(record.index);
            }
        }
        // An event without a record counts as sent when a later one is, or at the end of the block.
        let last_due = self.source.due(block.range.end - 1).micros();
        let next = block.records.last().map_or(block.range.start, |record| record.index + 1);
        if self.may_stop(next) || self.wait_until_due(last_due, next, progress)?.is_err() {
            return Ok(next);
        }
        Ok(block.range.end)
    }

    /// Waits until the reservation on disk covers the block.
    fn wait_for_reservation(&self, block: &Block, progress: &mut Progress) -> Step<()> {
        while !self.reservation.covers(&block.range)? {
            if self.may_stop(block.range.start) {
                return Ok(Err(Interrupted));
            }
            if self.kafka.is_none() {
                thread::sleep(RETRY_PAUSE);
            }
            self.poll(RETRY_PAUSE, progress)?;
        }
        Ok(Ok(()))
    }

    /// Waits until the end of the run is on disk.
    fn save_end(&self, end: RunEnd) -> Step<()> {
        while !self.reservation.save_end(end)? {
            if self.shutdown.is_over() {
                return Ok(Err(Interrupted));
            }
            thread::sleep(RETRY_PAUSE);
        }
        Ok(Ok(()))
    }

    /// Waits until an event is due and records its lateness.
    fn wait_until_due(&self, due: i64, index: u64, progress: &mut Progress) -> Step<()> {
        while let Some(early) = progress.schedule.time_until(due) {
            if self.may_stop(index) {
                return Ok(Err(Interrupted));
            }
            if self.lake.as_ref().is_some_and(SegmentFeed::is_closed) {
                return Err(DispatchError::Lake);
            }
            self.poll(Duration::ZERO, progress)?;
            thread::sleep(MAX_SLEEP.min(early));
        }
        if let Some(late) = progress.schedule.record_sent(due) {
            self.endpoints.record_lateness(late);
        }
        Ok(Ok(()))
    }

    fn send_record(&self, block: &Block, record: &Record, progress: &mut Progress) -> Step<()> {
        let Some(kafka) = &self.kafka else { return Ok(Ok(())) };
        let copies = if record.form == RecordForm::Duplicated { 2 } else { 1 };
        for copy in 0..copies {
            let (key, value) = if copy == 0 { (block.key(record), block.value(record)) } else { block.copy(record) };
            let is_corrupt = record.form == RecordForm::Corrupt;
            let tag = RecordTag { index: record.index, block: progress.block };
            while kafka.enqueue(tag, key, value, is_corrupt)? == EnqueueStatus::Full {
                self.poll(RETRY_PAUSE, progress)?;
                // An event is sent with its copy or not at all.
                if (copy == 0 && self.may_stop(record.index)) || self.shutdown.is_over() {
                    return Ok(Err(Interrupted));
                }
            }
            progress.records += 1;
        }
        progress.records_since_poll += 1;
        if progress.records_since_poll >= RECORDS_BETWEEN_POLLS {
            self.poll(Duration::ZERO, progress)?;
        }
        Ok(Ok(()))
    }

    fn poll(&self, time: Duration, progress: &mut Progress) -> Result<(), DispatchError> {
        progress.records_since_poll = 0;
        progress.schedule.update();
        Ok(self.kafka.as_ref().map_or(Ok(()), |kafka| kafka.poll(time))?)
    }

    /// Sends complete segments to the lake. Waits while its queue is full.
    fn update_lake(&mut self, send: fn(&mut SegmentFeed, u64) -> SendStatus, next_index: u64) -> Step<()> {
        let Some(lake) = &mut self.lake else { return Ok(Ok(())) };
        loop {
            match send(lake, next_index) {
                SendStatus::Sent => return Ok(Ok(())),
                SendStatus::Closed => return Err(DispatchError::Lake),
                SendStatus::Full if self.shutdown.is_over() => return Ok(Err(Interrupted)),
                SendStatus::Full => match &self.kafka {
                    Some(kafka) => kafka.poll(RETRY_PAUSE)?,
                    None => thread::sleep(RETRY_PAUSE),
                },
            }
        }
    }

    /// Waits until all records are acknowledged or the deadline passes. Returns the number of unacknowledged records.
    fn flush(&self) -> Result<u64, DispatchError> {
        let started = Instant::now();
        let open = self.kafka.as_ref().map_or(Ok(0), |kafka| kafka.flush(|| self.shutdown.is_over()))?;
        tracing::debug!(seconds = started.elapsed().as_secs_f64(), open, "kafka flushed");
        Ok(open)
    }
}
