//! Events to the lake: Parquet files by segment, and the quarantine.
//!
//! A segment's events are made once more from their indices, off the path to Kafka: cheaper than carrying them there,
//! and the memory for them is taken only while a segment is written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lake::{FileCounts, Lake, LakeError, LakeFile, QuarantineRow, RunId, SegmentBuilder, segment_indices};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinSet, spawn_blocking};
use workload::{Source, World};

use crate::failpoint::{AFTER_PUT, BEFORE_PUT, pass};
use crate::memory::MemoryLimit;
use crate::run_state::Safe;
use crate::validate::{Verdict, judge};

/// The part of a run that becomes files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    number: u64,
    range: Range<u64>,
}

/// Tells the lake how far the run is. Held by the thread that sends.
#[derive(Debug)]
pub struct LakeFeed {
    segments: Sender<Segment>,
    indices: u64,
    next: u64,
}

/// Writes segments.
#[derive(Debug)]
pub struct LakeSink {
    lake: Lake,
    source: Arc<Source>,
    run: RunId,
    parallel: usize,
    segments: Receiver<Segment>,
    written: Arc<Written>,
}

/// What is in the lake so far, for whoever watches.
#[derive(Debug, Default)]
pub struct Written(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    files: Files,
    /// Segments that are being written.
    open: usize,
    /// Those of segments that are there whole, until they are taken.
    segments: BTreeMap<u64, Files>,
}

/// Files in the lake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Of valid events.
    pub raw: FileCounts,
    /// Of refused ones.
    pub quarantine: FileCounts,
}

/// How many indices a segment of this run has: the same for the same settings, at any pace.
#[must_use]
pub fn indices_of(source: &Source) -> u64 {
    let World { categories, experiments, .. } = &source.settings().world;
    let longest = |names: &[String]| names.iter().map(String::len).max().unwrap_or(0);
    let (events, micros) = source.least_rate();
    segment_indices(events, micros, longest(categories) + longest(experiments), false)
}

impl LakeSink {
    /// A sink for what comes after what is stored already, and what feeds it.
    #[must_use]
    pub fn new(lake: Lake, source: Arc<Source>, run: RunId, safe: &Safe, memory: MemoryLimit) -> (Self, LakeFeed) {
        let indices = indices_of(&source);
        let (sender, segments) = channel(1);
        let parallel = memory.segments(indices);
        let written = Written(Mutex::new(Inside { files: safe.files, ..Inside::default() }));
        let sink = Self { lake, source, run, parallel, segments, written: Arc::new(written) };
        (sink, LakeFeed { segments: sender, indices, next: safe.next_segment })
    }

    /// What is written so far.
    #[must_use]
    pub fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Writes what it is fed until the feed is dropped and all is written, or something can't be. Then the feed is
    /// closed, so that the thread that sends learns of it.
    pub async fn run(mut self) -> Result<(), LakeError> {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(done) = open.join_next() => done.map_err(broken)??,
                segment = self.segments.recv(), if open.len() < self.parallel => match segment {
                    Some(segment) => drop(open.spawn(self.job(segment))),
                    None => break,
                },
            }
        }
        while let Some(done) = open.join_next().await {
            done.map_err(broken)??;
        }
        Ok(())
    }

    fn job(&self, segment: Segment) -> impl Future<Output = Result<(), LakeError>> + use<> {
        let (lake, source, run) = (self.lake.clone(), Arc::clone(&self.source), self.run.clone());
        let written = Arc::clone(&self.written);
        async move {
            let number = segment.number;
            written.begin();
            let files = spawn_blocking(move || make_files(&source, run, segment)).await.map_err(broken)??;
            let mut done = Files::default();
            for file in &files.raw {
                put(&lake, file).await?;
                done.raw.add(written.add(|files| &mut files.raw, file));
            }
            for file in &files.quarantine {
                put(&lake, file).await?;
                done.quarantine.add(written.add(|files| &mut files.quarantine, file));
            }
            written.whole(number, done);
            tracing::debug!(
                segment = number,
                files = files.raw.len() + files.quarantine.len(),
                bytes = files.raw.iter().map(|file| file.bytes.len()).sum::<usize>(),
                "segment written"
            );
            Ok(())
        }
    }
}

async fn put(lake: &Lake, file: &LakeFile) -> Result<(), LakeError> {
    pass(BEFORE_PUT);
    lake.put_file(file).await?;
    pass(AFTER_PUT);
    Ok(())
}

/// A task that broke down, as an error of the lake.
fn broken(error: tokio::task::JoinError) -> LakeError {
    LakeError::Encode { file: "segment", source: error.into() }
}

fn make_files(source: &Source, run: RunId, segment: Segment) -> Result<lake::SegmentFiles, LakeError> {
    let rows = usize::try_from(segment.range.end - segment.range.start).unwrap_or(0);
    let mut builder = SegmentBuilder::new(run, segment.number, rows);
    for index in segment.range {
        let generated = source.make(index);
        match judge(&generated) {
            Verdict::Valid => builder.append(&generated.event),
            Verdict::Invalid { value, rejection } => {
                builder.append_refused(QuarantineRow::new(index, generated.due, &value, &rejection));
            }
            Verdict::Corrupt => {}
        }
    }
    builder.finish()
}

/// What the lake has to say to the thread that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All is well.
    Taken,
    /// Too much is open: try again later.
    Full,
    /// The lake has failed, and says why on its own.
    Closed,
}

impl LakeFeed {
    /// Says that all events before `next_index` are handed out. Only whole segments are written.
    pub fn advance(&mut self, next_index: u64) -> Fed {
        while let Some(end) = self.end_of_next().filter(|end| *end <= next_index) {
            match self.feed(end) {
                Fed::Taken => {}
                other => return other,
            }
        }
        if self.is_closed() { Fed::Closed } else { Fed::Taken }
    }

    /// Says that the run ends before `next_index`: what is left becomes the last segment, which is shorter.
    pub fn finish(&mut self, next_index: u64) -> Fed {
        match self.advance(next_index) {
            Fed::Taken if self.next * self.indices < next_index => self.feed(next_index),
            other => other,
        }
    }

    /// Whether the lake has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.segments.is_closed()
    }

    fn end_of_next(&self) -> Option<u64> {
        self.next.checked_add(1)?.checked_mul(self.indices)
    }

    fn feed(&mut self, end: u64) -> Fed {
        let segment = Segment { number: self.next, range: self.next * self.indices..end };
        match self.segments.try_send(segment) {
            Ok(()) => {
                self.next += 1;
                Fed::Taken
            }
            Err(TrySendError::Full(_)) => Fed::Full,
            Err(TrySendError::Closed(_)) => Fed::Closed,
        }
    }
}

impl Files {
    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.raw.add(others.raw);
        self.quarantine.add(others.quarantine);
    }
}

impl Written {
    /// All files.
    #[must_use]
    pub fn files(&self) -> Files {
        self.lock().files
    }

    /// Whether a segment is there whole.
    #[must_use]
    pub fn has(&self, segment: u64) -> bool {
        self.lock().segments.contains_key(&segment)
    }

    /// The files of a segment that is there whole, once.
    pub fn take(&self, segment: u64) -> Option<Files> {
        self.lock().segments.remove(&segment)
    }

    fn add(&self, kind: impl Fn(&mut Files) -> &mut FileCounts, file: &LakeFile) -> FileCounts {
        let one = FileCounts { files: 1, rows: file.rows };
        kind(&mut self.lock().files).add(one);
        one
    }

    /// Whether a segment is being written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.lock().open > 0
    }

    fn begin(&self) {
        self.lock().open += 1;
    }

    fn whole(&self, segment: u64, files: Files) {
        let mut inside = self.lock();
        inside.open -= 1;
        inside.segments.insert(segment, files);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use lake::{LakeUrl, QUARANTINE_PREFIX, RAW_PREFIX, S3Access};

    use super::*;
    use crate::pipeline::block_counts::BlockCounts;
    use crate::pipeline::block_counts::tests::source;

    #[test]
    fn segments_are_fed_once_and_in_order() {
        let (segments, mut received) = channel(2);
        let mut feed = LakeFeed { segments, indices: 100, next: 0 };
        assert_eq!(feed.advance(99), Fed::Taken);
        assert_eq!(feed.advance(350), Fed::Full);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 0, range: 0..100 });
        assert_eq!(feed.advance(350), Fed::Taken);
        assert_eq!(feed.finish(350), Fed::Full);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 1, range: 100..200 });
        assert_eq!(feed.finish(350), Fed::Taken);
        assert_eq!(feed.finish(350), Fed::Taken);
        assert_eq!(received.try_recv().unwrap(), Segment { number: 2, range: 200..300 });
        assert_eq!(received.try_recv().unwrap(), Segment { number: 3, range: 300..350 });
        drop(received);
        assert_eq!(feed.advance(350), Fed::Closed);
    }

    #[tokio::test]
    async fn a_run_becomes_files_and_the_same_run_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let url = LakeUrl::Folder(folder.path().to_path_buf());
        let lake = Lake::open(&url, S3Access::Standard).await.unwrap();
        let source = Arc::new(source(&["invalid=2%", "corrupt=1%", "duplicate=1%"]));
        let counts = BlockCounts::of(&source, 0..50_000).into_counts();
        for _ in 0..2 {
            let (sink, mut feed) = LakeSink::new(
                lake.clone(),
                Arc::clone(&source),
                "r".parse().unwrap(),
                &Safe::default(),
                MemoryLimit::default(),
            );
            let written = sink.written();
            let sink = tokio::spawn(sink.run());
            while feed.finish(50_000) == Fed::Full {
                tokio::task::yield_now().await;
            }
            drop(feed);
            sink.await.unwrap().unwrap();
            assert_eq!(written.files().raw.rows, counts.outcomes.valid);
            assert_eq!(written.files().quarantine.rows, counts.outcomes.invalid);
            let mut both = written.take(0).unwrap();
            both.add(written.take(1).unwrap());
            assert!(both == written.files() && !written.has(1));
            // Two segments, the first of which lies in two hours.
            assert_eq!(lake.list(RAW_PREFIX).await.unwrap().len(), 3);
            assert_eq!(lake.list(QUARANTINE_PREFIX).await.unwrap().len(), 3);
        }
    }
}
