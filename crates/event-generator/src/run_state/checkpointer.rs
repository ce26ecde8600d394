//! The thread that keeps a run's state on the disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Checkpoints, Handed, RunFolder, RunState, Sealed, StateError};
use crate::failpoint::{AFTER_STATE, pass};
use crate::sinks::kafka::Deliveries;
use crate::sinks::lake::Written;

/// How often it looks whether segments have become stored.
const TICK: Duration = Duration::from_millis(200);
/// A reservation that lasts less than this is followed by a larger one, one that lasts longer than that by a smaller one.
const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(1);
/// What is reserved at a time at most: so much may have to be sent before a run that was killed and resumed can end.
const LARGEST: u64 = 262_144;

/// Where stored segments are seen.
#[derive(Debug)]
pub struct Watched {
    /// Segments to wait for.
    pub checkpoints: Arc<Checkpoints>,
    /// What Kafka has.
    pub kafka: Option<Arc<Deliveries>>,
    /// What the lake has.
    pub lake: Option<Arc<Written>>,
}

/// Writes the state whenever it allows more, and whenever more is stored.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<RunFolder, StateError>>,
}

/// The keeper for the thread that sends.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    /// The end of the run where it has one.
    limit: u64,
    wanted: u64,
    reserved: u64,
    reserved_at: Instant,
    step: u64,
    seal: Option<Sealed>,
    sealed: Option<Sealed>,
    over: bool,
    failed: bool,
}

/// The state can't be written, and the keeper says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl Keeper {
    /// Writes the state and starts a thread that keeps it. `limit` is the index after the last one, where that is known.
    pub fn start(folder: RunFolder, state: RunState, limit: Option<u64>, watched: Watched) -> Result<Self, StateError> {
        folder.write_state(&state)?;
        let inner = Inner {
            limit: limit.unwrap_or(u64::MAX),
            wanted: state.reserved,
            reserved: state.reserved,
            reserved_at: Instant::now(),
            step: 0,
            seal: state.sealed,
            sealed: state.sealed,
            over: false,
            failed: false,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let spawned = thread::Builder::new().name("state".to_owned()).spawn(move || {
            let kept = keep(&own, &folder, state, &watched);
            own.lock().failed = kept.is_err();
            kept.map(|()| folder)
        });
        let no_thread =
            |source| StateError::Io { action: "start a thread for", path: "the run's state".into(), source };
        Ok(Self { shared, thread: spawned.map_err(no_thread)? })
    }

    /// For the thread that sends.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        Allowance(Arc::clone(&self.shared))
    }

    /// Ends the thread, with what is stored by now written down, and gives the folder back.
    pub fn end(self) -> Result<RunFolder, StateError> {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        match self.thread.join() {
            Ok(kept) => kept,
            Err(_) => Err(StateError::Damaged {
                path: "the run's state".into(),
                problem: "its thread broke down; please report this with the message above".to_owned(),
            }),
        }
    }
}

impl Allowance {
    /// Whether the block of events that ends at an index may be sent. Asks for more in time, so that the answer is seldom
    /// no.
    pub fn covers(&self, block: &std::ops::Range<u64>) -> Result<bool, Failed> {
        let mut inner = self.0.lock();
        if inner.failed {
            return Err(Failed);
        }
        let length = block.end - block.start;
        if block.end.saturating_add(inner.step / 2) > inner.reserved && inner.wanted <= inner.reserved {
            inner.step = match inner.reserved_at.elapsed() {
                short if short < SHORT => (inner.step * 2).min(LARGEST),
                long if long > LONG => inner.step / 2,
                _ => inner.step,
            }
            .max(length * 2);
            inner.reserved_at = Instant::now();
            inner.wanted = block.end.saturating_add(inner.step).min(inner.limit.max(block.end));
            self.0.changed.notify_all();
        }
        Ok(block.end <= inner.reserved)
    }

    /// Whether it is written down where the run ends.
    pub fn sealed(&self, seal: Sealed) -> Result<bool, Failed> {
        let mut inner = self.0.lock();
        if inner.failed {
            return Err(Failed);
        }
        if inner.seal.is_none() {
            inner.seal = Some(seal);
            self.0.changed.notify_all();
        }
        Ok(inner.sealed.is_some())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a wish or a while. What is wished for, and whether this is the last time.
    fn next(&self) -> (u64, Option<Sealed>, bool) {
        let idle = |inner: &mut Inner| inner.wanted <= inner.reserved && inner.seal == inner.sealed && !inner.over;
        let waited = self.changed.wait_timeout_while(self.lock(), TICK, idle);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (inner.wanted.max(inner.reserved), inner.seal, inner.over)
    }
}

fn keep(shared: &Shared, folder: &RunFolder, mut state: RunState, watched: &Watched) -> Result<(), StateError> {
    loop {
        let (reserved, sealed, over) = shared.next();
        let further = watched.advance(&mut state);
        if further || reserved != state.reserved || sealed != state.sealed {
            (state.reserved, state.sealed) = (reserved, sealed);
            folder.write_state(&state)?;
            pass(AFTER_STATE);
            let mut inner = shared.lock();
            (inner.reserved, inner.sealed) = (reserved, sealed);
        }
        if over {
            return Ok(());
        }
    }
}

impl Watched {
    /// Moves what is safe over all segments that have become stored. Whether there were any.
    fn advance(&self, state: &mut RunState) -> bool {
        let safe = &mut state.safe;
        let before = safe.next_segment;
        while let Some(stored) = self.checkpoints.pop_if(|handed| self.is_stored(handed)) {
            safe.next_segment = stored.segment + 1;
            safe.next_index = stored.next_index;
            safe.counts.merge(&stored.counts);
            if let Some(lake) = &self.lake {
                safe.files.add(lake.take(stored.segment).unwrap_or_default());
            }
        }
        if let Some(kafka) = &self.kafka {
            kafka.forget_before(safe.next_segment);
            safe.end_offsets = kafka.acknowledged().end_offsets;
        }
        safe.next_segment != before
    }

    fn is_stored(&self, handed: &Handed) -> bool {
        let in_kafka = self.kafka.as_ref().is_none_or(|kafka| kafka.of_segment(handed.segment) >= handed.records);
        let in_lake = self.lake.as_ref().is_none_or(|lake| lake.has(handed.segment));
        in_kafka && in_lake
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use lake::{Counts, End};
    use serde_json::json;

    use super::*;
    use crate::run_state::{Destination, Flags};

    fn started(dir: &std::path::Path, limit: Option<u64>) -> (Keeper, Arc<Checkpoints>) {
        let destination = Destination { topic: None, lake: None, segment_indices: 100 };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let state = RunState::begin("r".parse().unwrap(), now, json!({}), destination, Flags::default());
        let folder = RunFolder::take(dir, &state.run).unwrap();
        let checkpoints = Arc::new(Checkpoints::default());
        let watched = Watched { checkpoints: Arc::clone(&checkpoints), kafka: None, lake: None };
        (Keeper::start(folder, state, limit, watched).unwrap(), checkpoints)
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "it does not come about");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn on_disk(dir: &std::path::Path) -> RunState {
        RunFolder::look(dir, &"r".parse().unwrap()).unwrap().unwrap()
    }

    #[test]
    fn what_is_allowed_is_on_the_disk_first() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _) = started(dir.path(), Some(1_000));
        let allowance = keeper.allowance();
        for start in (0..1_000).step_by(100) {
            until(|| allowance.covers(&(start..start + 100)).unwrap());
            assert!(on_disk(dir.path()).reserved >= start + 100);
        }
        assert_eq!(on_disk(dir.path()).reserved, 1_000, "never more than there will be");
        let seal = Sealed { next_index: 990, end: End::Stopped };
        until(|| allowance.sealed(seal).unwrap());
        assert_eq!(on_disk(dir.path()).sealed, Some(seal));
        keeper.end().unwrap();
    }

    #[test]
    fn what_is_stored_is_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, checkpoints) = started(dir.path(), None);
        for segment in 0..3 {
            let mut counts = Counts::default();
            counts.faults.invalid = 2;
            checkpoints.push(Handed { segment, next_index: (segment + 1) * 100, records: 98, counts });
        }
        keeper.end().unwrap();
        let safe = on_disk(dir.path()).safe;
        assert_eq!((safe.next_segment, safe.next_index, safe.counts.faults.invalid), (3, 300, 6));
    }

    #[test]
    fn a_state_that_cannot_be_written_stops_what_asks() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _) = started(dir.path(), None);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let allowance = keeper.allowance();
        until(|| allowance.covers(&(0..100)).is_err());
        assert!(keeper.end().unwrap_err().to_string().contains("state.json"));
    }
}
