//! Counts of the files in the lake, shared with the checkpointer and the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lake::{FileCounts, LakeFile};

use crate::sinks::LakeFiles;

/// Files written so far.
#[derive(Debug, Default)]
pub(crate) struct LakeProgress(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: LakeFiles,
    /// Number of segments in flight.
    open: usize,
    /// Files of each complete segment, until the checkpointer takes them.
    complete: BTreeMap<u64, LakeFiles>,
}

impl LakeProgress {
    /// Creates the progress of a run that has some files in the lake already.
    pub(super) fn resuming(files: LakeFiles) -> Self {
        Self(Mutex::new(Inner { files, ..Inner::default() }))
    }

    pub(crate) fn files(&self) -> LakeFiles {
        self.lock().files
    }

    /// Returns true if all files of a segment are written.
    pub(crate) fn is_complete(&self, segment: u64) -> bool {
        self.lock().complete.contains_key(&segment)
    }

    /// Removes and returns the files of a complete segment.
    pub(crate) fn take(&self, segment: u64) -> Option<LakeFiles> {
        self.lock().complete.remove(&segment)
    }

    /// Returns true while any segment is in flight.
    pub(crate) fn is_writing(&self) -> bool {
        self.lock().open > 0
    }

    pub(super) fn begin_segment(&self) {
        self.lock().open += 1;
    }

    /// Counts a file and returns its counts.
    pub(super) fn add(&self, kind: impl Fn(&mut LakeFiles) -> &mut FileCounts, file: &LakeFile) -> FileCounts {
        let one = FileCounts { files: 1, rows: file.rows };
        kind(&mut self.lock().files).add(one);
        one
    }

    pub(super) fn complete_segment(&self, segment: u64, files: LakeFiles) {
        let mut inner = self.lock();
        inner.open -= 1;
        inner.complete.insert(segment, files);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
