//! Writes events to the lake: raw files and the quarantine, segment by segment.
//!
//! The sink receives ranges of indices and generates their events a second time, instead of receiving the blocks that
//! go to Kafka. This is cheaper:
//!
//! - Generating and validating an event takes 1,487 instructions, 14% of the 10,674 that the lake spends on it together
//!   with its part of a Parquet file (bench/instructions.json: make, validate, write-parquet). Parsing the event from
//!   the bytes of its record would take 4,635 (parse), so a block would have to contain the fields of each event too.
//! - Blocks for the lake would wait in memory while it is slow or unavailable. A range takes a few bytes, and a segment
//!   takes memory only while it is written.
//! - The dispatcher limits the throughput to Kafka. It copies nothing for the lake.

mod progress;
mod segment_feed;

use std::sync::Arc;

use lake::{Lake, LakeError, LakeFile, QuarantineRow, RunId, SegmentBuilder, SegmentFiles};
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use workload::{Source, World};

pub(crate) use progress::LakeProgress;
pub(crate) use segment_feed::{SegmentFeed, SendStatus};

use segment_feed::Segment;

use crate::failpoint::{AFTER_PUT, BEFORE_PUT, pass};
use crate::memory::MemoryLimit;
use crate::sinks::{DurablePrefix, LakeFiles};
use crate::validate::{Validated, validate};

/// Writes the segments of a run.
#[derive(Debug)]
pub(crate) struct LakeSink {
    lake: Lake,
    source: Arc<Source>,
    run: RunId,
    max_open: usize,
    segments: Receiver<Segment>,
    progress: Arc<LakeProgress>,
}

/// Returns the number of indices in a segment of a run. It depends on the settings only, not on the pace.
pub(crate) fn segment_indices(source: &Source) -> u64 {
    let World { categories, experiments, .. } = &source.settings().world;
    let longest = |names: &[String]| names.iter().map(String::len).max().unwrap_or(0);
    let (events, micros) = source.least_rate();
    lake::segment_indices(events, micros, longest(categories) + longest(experiments))
}

impl LakeSink {
    /// Creates a sink that continues after a durable prefix, and the feed of its segments.
    pub(crate) fn new(
        lake: Lake,
        source: Arc<Source>,
        run: RunId,
        prefix: &DurablePrefix,
        memory: MemoryLimit,
    ) -> (Self, SegmentFeed) {
        let segment_indices = segment_indices(&source);
        let (feed, segments) = SegmentFeed::new(segment_indices, prefix.next_segment);
        let max_open = memory.segments(segment_indices);
        let progress = Arc::new(LakeProgress::resuming(prefix.files));
        (Self { lake, source, run, max_open, segments, progress }, feed)
    }

    pub(crate) fn progress(&self) -> Arc<LakeProgress> {
        Arc::clone(&self.progress)
    }

    /// Writes segments until the feed is dropped and all of them are stored. After an error the feed is closed, which
    /// stops the dispatcher.
    pub(crate) async fn run(mut self) -> Result<(), LakeError> {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(done) = open.join_next() => done.map_err(task_failed)??,
                segment = self.segments.recv(), if open.len() < self.max_open => match segment {
                    Some(segment) => drop(open.spawn(self.write_segment(segment))),
                    None => break,
                },
            }
        }
        while let Some(done) = open.join_next().await {
            done.map_err(task_failed)??;
        }
        Ok(())
    }

    fn write_segment(&self, segment: Segment) -> impl Future<Output = Result<(), LakeError>> + use<> {
        let (lake, source, run) = (self.lake.clone(), Arc::clone(&self.source), self.run.clone());
        let progress = Arc::clone(&self.progress);
        async move {
            let number = segment.number;
            progress.begin_segment();
            let files = spawn_blocking(move || encode(&source, run, segment)).await.map_err(task_failed)??;
            let mut written = LakeFiles::default();
            for file in &files.raw {
                put(&lake, file).await?;
                written.raw.add(progress.add(|files| &mut files.raw, file));
            }
            for file in &files.quarantine {
                put(&lake, file).await?;
                written.quarantine.add(progress.add(|files| &mut files.quarantine, file));
            }
            progress.complete_segment(number, written);
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

/// Converts the failure of a task into an error of the lake.
fn task_failed(error: JoinError) -> LakeError {
    LakeError::Encode { file: "segment", source: error.into() }
}

fn encode(source: &Source, run: RunId, segment: Segment) -> Result<SegmentFiles, LakeError> {
    let rows = usize::try_from(segment.range.end - segment.range.start).unwrap_or(0);
    let mut builder = SegmentBuilder::new(run, segment.number, rows);
    for index in segment.range {
        let generated = source.make(index);
        match validate(&generated) {
            Validated::Valid => builder.append(&generated.event),
            Validated::Invalid { value, rejection } => {
                builder.append_rejected(QuarantineRow::new(index, generated.due, &value, &rejection));
            }
            Validated::Corrupt => {}
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use lake::{LakeUrl, QUARANTINE_PREFIX, RAW_PREFIX, S3Access};

    use super::*;
    use crate::test_source::source;

    #[tokio::test]
    async fn the_same_run_writes_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let url = LakeUrl::Folder(folder.path().to_path_buf());
        let lake = Lake::open(&url, S3Access::Standard).await.unwrap();
        let source = Arc::new(source(&["invalid=2%", "corrupt=1%", "duplicate=1%"]));
        let (mut valid, mut invalid) = (0, 0);
        for index in 0..50_000 {
            match validate(&source.make(index)) {
                Validated::Valid => valid += 1,
                Validated::Invalid { .. } => invalid += 1,
                Validated::Corrupt => {}
            }
        }
        for _ in 0..2 {
            let (sink, mut feed) = LakeSink::new(
                lake.clone(),
                Arc::clone(&source),
                "r".parse().unwrap(),
                &DurablePrefix::default(),
                MemoryLimit::default(),
            );
            let progress = sink.progress();
            let sink = tokio::spawn(sink.run());
            while feed.finish(50_000) == SendStatus::Full {
                tokio::task::yield_now().await;
            }
            drop(feed);
            sink.await.unwrap().unwrap();
            assert_eq!(progress.files().raw.rows, valid);
            assert_eq!(progress.files().quarantine.rows, invalid);
            let mut both = progress.take(0).unwrap();
            both.add(progress.take(1).unwrap());
            assert!(both == progress.files() && !progress.is_complete(1));
            // Two segments; the first spans two hours.
            assert_eq!(lake.list(RAW_PREFIX).await.unwrap().len(), 3);
            assert_eq!(lake.list(QUARANTINE_PREFIX).await.unwrap().len(), 3);
        }
    }
}
