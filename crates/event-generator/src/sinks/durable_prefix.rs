//! The part of a run that all sinks have stored.

use lake::{Counts, FileCounts};
use serde::{Deserialize, Serialize};

/// The first segments of a run, all of them stored in each sink. The lake of a resumed run continues after them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DurablePrefix {
    /// Number of the first segment after the prefix.
    pub(crate) next_segment: u64,
    /// First index after the prefix.
    pub(crate) next_index: u64,
    pub(crate) counts: Counts,
    pub(crate) files: LakeFiles,
}

/// Numbers of files in the lake, and of their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LakeFiles {
    /// Files of valid events.
    pub(crate) raw: FileCounts,
    /// Files of rejected events.
    pub(crate) quarantine: FileCounts,
}

impl LakeFiles {
    pub(crate) fn add(&mut self, others: Self) {
        self.raw.add(others.raw);
        self.quarantine.add(others.quarantine);
    }
}
