//! The thread that writes a run's state to disk.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::folder::{RunFolder, StateError};
use super::pending_blocks::{PendingBlock, PendingBlocks};
use super::state::{RunEnd, RunState};
use crate::failpoint::{AFTER_STATE, pass};
use crate::sinks::kafka::Deliveries;
use crate::sinks::lake::LakeProgress;

/// Interval of the checks for acknowledged blocks and stored segments.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval at which the acknowledged prefix is written if nothing else has to be. It limits the records that a killed
/// run sends again.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// A reservation used up sooner than this is followed by a larger one.
const SHORT_RESERVATION: Duration = Duration::from_millis(250);
/// A reservation that lasts longer than this is followed by a smaller one.
const LONG_RESERVATION: Duration = Duration::from_secs(1);
/// Maximum number of events in a reservation: a resumed run may have to send them all before it can end.
const MAX_RESERVATION: u64 = 262_144;

/// Progress of the sinks, which decides when a block is acknowledged and a segment stored.
#[derive(Debug)]
pub(crate) struct SinkProgress {
    pub(crate) pending: Arc<PendingBlocks>,
    pub(crate) kafka: Option<Arc<Deliveries>>,
    pub(crate) lake: Option<Arc<LakeProgress>>,
}

/// Writes the state when a reservation or the run's end is requested, when more segments are stored, and every second
/// while Kafka acknowledges records.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<RunFolder, StateError>>,
}

/// The dispatcher's handle: permission to send events.
#[derive(Clone, Debug)]
pub(crate) struct Reservation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    /// End of the run, or the maximum if it has none.
    limit: u64,
    requested: u64,
    reserved: u64,
    reserved_at: Instant,
    step: u64,
    requested_end: Option<RunEnd>,
    saved_end: Option<RunEnd>,
    closing: bool,
    failed: bool,
}

/// The state cannot be written. [`Checkpointer::finish`] returns the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointFailed;

impl Checkpointer {
    /// Writes the state and starts the thread. `limit` is the index after the last event, if it is known.
    pub(crate) fn start(
        folder: RunFolder,
        state: RunState,
        limit: Option<u64>,
        sinks: SinkProgress,
    ) -> Result<Self, StateError> {
        folder.write_state(&state)?;
        let inner = Inner {
            limit: limit.unwrap_or(u64::MAX),
            requested: state.reserved,
            reserved: state.reserved,
            reserved_at: Instant::now(),
            step: 0,
            requested_end: state.run_end,
            saved_end: state.run_end,
            closing: false,
            failed: false,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let spawned = thread::Builder::new().name("checkpointer".to_owned()).spawn(move || {
            let result = run(&own, &folder, state, &sinks);
            own.lock().failed = result.is_err();
            result.map(|()| folder)
        });
        let no_thread =
            |source| StateError::Io { action: "start a thread for", path: "the run's state".into(), source };
        Ok(Self { shared, thread: spawned.map_err(no_thread)? })
    }

    pub(crate) fn reservation(&self) -> Reservation {
        Reservation(Arc::clone(&self.shared))
    }

    /// Writes a last checkpoint, ends the thread and returns the folder.
    pub(crate) fn finish(self) -> Result<RunFolder, StateError> {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(StateError::Damaged {
                path: "the run's state".into(),
                problem: "the checkpointer panicked, report it with the message above".to_owned(),
            }),
        }
    }
}

impl Reservation {
    /// Returns true if the block may be sent. Requests the next reservation early, so that the dispatcher rarely waits.
    pub(crate) fn covers(&self, block: &Range<u64>) -> Result<bool, CheckpointFailed> {
        let mut inner = self.0.lock();
        if inner.failed {
            return Err(CheckpointFailed);
        }
        let length = block.end - block.start;
        if block.end.saturating_add(inner.step / 2) > inner.reserved && inner.requested <= inner.reserved {
            inner.step = match inner.reserved_at.elapsed() {
                time if time < SHORT_RESERVATION => (inner.step * 2).min(MAX_RESERVATION),
                time if time > LONG_RESERVATION => inner.step / 2,
                _ => inner.step,
            }
            .max(length * 2);
            inner.reserved_at = Instant::now();
            inner.requested = block.end.saturating_add(inner.step).min(inner.limit.max(block.end));
            self.0.changed.notify_all();
        }
        Ok(block.end <= inner.reserved)
    }

    /// Requests that the run's end be written. Returns true once it is on disk.
    pub(crate) fn save_end(&self, end: RunEnd) -> Result<bool, CheckpointFailed> {
        let mut inner = self.0.lock();
        if inner.failed {
            return Err(CheckpointFailed);
        }
        if inner.requested_end.is_none() {
            inner.requested_end = Some(end);
            self.0.changed.notify_all();
        }
        Ok(inner.saved_end.is_some())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request or for [`CHECK_INTERVAL`]. Returns the requested reservation and end, and true if the
    /// checkpointer is to finish.
    fn next_request(&self) -> (u64, Option<RunEnd>, bool) {
        let is_idle = |inner: &mut Inner| {
            inner.requested <= inner.reserved && inner.requested_end == inner.saved_end && !inner.closing
        };
        let waited = self.changed.wait_timeout_while(self.lock(), CHECK_INTERVAL, is_idle);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (inner.requested.max(inner.reserved), inner.requested_end, inner.closing)
    }
}

fn run(shared: &Shared, folder: &RunFolder, mut state: RunState, sinks: &SinkProgress) -> Result<(), StateError> {
    let (mut written_index, mut written_at) = (state.acknowledged.next_index, Instant::now());
    loop {
        let (reserved, run_end, closing) = shared.next_request();
        let requested = (reserved, run_end) != (state.reserved, state.run_end);
        (state.reserved, state.run_end) = (reserved, run_end);
        let stored = sinks.advance(&mut state);
        let acknowledged = state.acknowledged.next_index != written_index;
        if requested || stored || (acknowledged && (closing || written_at.elapsed() >= WRITE_INTERVAL)) {
            folder.write_state(&state)?;
            pass(AFTER_STATE);
            (written_index, written_at) = (state.acknowledged.next_index, Instant::now());
            // Only now: the dispatcher must not send events beyond the limit on disk.
            let mut inner = shared.lock();
            (inner.reserved, inner.saved_end) = (reserved, run_end);
        }
        if closing {
            return Ok(());
        }
    }
}

impl SinkProgress {
    /// Moves the acknowledged prefix over all blocks that are acknowledged by now, and the durable prefix over all
    /// segments that are stored. Returns true if the durable prefix moved.
    fn advance(&self, state: &mut RunState) -> bool {
        while let Some(block) = self.pending.pop_if(|block| self.is_acknowledged(block)) {
            if let Some(kafka) = &self.kafka {
                kafka.drop_blocks_before(block.number + 1);
            }
            state.acknowledge(&block);
        }
        if let Some(kafka) = &self.kafka {
            // Read after the blocks, so that they include the records of the prefix.
            state.acknowledged.end_offsets = kafka.acknowledged().end_offsets;
        }
        let before = state.durable_prefix.next_segment;
        while let Some(number) = state.acknowledged_segment().filter(|number| self.is_in_lake(*number)) {
            let files = self.lake.as_ref().and_then(|lake| lake.take(number)).unwrap_or_default();
            state.store_segment(files);
        }
        state.durable_prefix.next_segment != before
    }

    fn is_acknowledged(&self, block: &PendingBlock) -> bool {
        self.kafka.as_ref().is_none_or(|kafka| kafka.block_records(block.number) >= block.records)
    }

    fn is_in_lake(&self, segment: u64) -> bool {
        self.lake.as_ref().is_none_or(|lake| lake.is_complete(segment))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;
    use std::path::Path;

    use lake::{Counts, End};
    use serde_json::json;

    use super::*;
    use crate::run_state::Destination;

    fn started(dir: &Path, limit: Option<u64>) -> (Checkpointer, Arc<PendingBlocks>) {
        started_with(dir, limit, None)
    }

    fn started_with(
        dir: &Path,
        limit: Option<u64>,
        kafka: Option<Arc<Deliveries>>,
    ) -> (Checkpointer, Arc<PendingBlocks>) {
        let destination = Destination { topic: None, lake: None, segment_indices: 100 };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let state = RunState::new("r".parse().unwrap(), now, json!({}), destination, json!({}));
        let folder = RunFolder::lock(dir, &state.run).unwrap();
        let pending = Arc::new(PendingBlocks::default());
        let sinks = SinkProgress { pending: Arc::clone(&pending), kafka, lake: None };
        (Checkpointer::start(folder, state, limit, sinks).unwrap(), pending)
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "the condition is not met in time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn on_disk(dir: &Path) -> RunState {
        RunFolder::read_state_of(dir, &"r".parse().unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a_reservation_is_on_disk_before_it_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpointer, _) = started(dir.path(), Some(1_000));
        let reservation = checkpointer.reservation();
        for start in (0..1_000).step_by(100) {
            until(|| reservation.covers(&(start..start + 100)).unwrap());
            assert!(on_disk(dir.path()).reserved >= start + 100);
        }
        assert_eq!(on_disk(dir.path()).reserved, 1_000, "never beyond the end of the run");
        let end = RunEnd { next_index: 990, reason: End::Stopped };
        until(|| reservation.save_end(end).unwrap());
        assert_eq!(on_disk(dir.path()).run_end, Some(end));
        checkpointer.finish().unwrap();
    }

    #[test]
    fn stored_segments_extend_the_durable_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpointer, pending) = started(dir.path(), None);
        for number in 0..3 {
            let mut counts = Counts::default();
            counts.faults.invalid = 2;
            pending.push(PendingBlock { number, next_index: (number + 1) * 100, records: 98, counts });
        }
        checkpointer.finish().unwrap();
        let prefix = on_disk(dir.path()).durable_prefix;
        assert_eq!((prefix.next_segment, prefix.next_index, prefix.counts.faults.invalid), (3, 300, 6));
    }

    /// Acknowledges records of a block, in partition 1.
    fn acknowledge(kafka: &Deliveries, block: u64, offsets: Range<i64>) {
        for offset in offsets {
            kafka.delivered(block, 1, offset, 300);
        }
    }

    #[test]
    fn acknowledged_blocks_are_on_disk_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let kafka = Arc::new(Deliveries::resuming(0, &BTreeMap::new()));
        let (checkpointer, pending) = started_with(dir.path(), None, Some(Arc::clone(&kafka)));
        for number in 0..3 {
            let mut counts = Counts::default();
            counts.outcomes.valid = 10;
            pending.push(PendingBlock { number, next_index: (number + 1) * 10, records: 10, counts });
        }
        // The second block lacks a record, so the prefix does not include the third.
        acknowledge(&kafka, 0, 0..10);
        acknowledge(&kafka, 1, 10..19);
        acknowledge(&kafka, 2, 19..29);
        until(|| on_disk(dir.path()).acknowledged.next_index == 10);
        let state = on_disk(dir.path());
        assert_eq!((state.acknowledged_counts().outcomes.valid, state.durable_prefix.next_index), (10, 0));
        assert_eq!(state.acknowledged.end_offsets, BTreeMap::from([(1, 29)]));
        acknowledge(&kafka, 1, 29..30);
        until(|| on_disk(dir.path()).acknowledged.next_index == 30);
        checkpointer.finish().unwrap();
        assert_eq!(on_disk(dir.path()).acknowledged_counts().outcomes.valid, 30);
    }

    #[test]
    fn a_state_that_cannot_be_written_stops_the_dispatcher() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpointer, _) = started(dir.path(), None);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let reservation = checkpointer.reservation();
        until(|| reservation.covers(&(0..100)).is_err());
        assert!(checkpointer.finish().unwrap_err().to_string().contains("state.json"));
    }
}
