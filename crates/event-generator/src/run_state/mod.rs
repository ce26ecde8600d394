//! What a run must remember to survive being killed.
//!
//! In `<state-dir>/<run>/` lie the run's `lock`, its `state.json` while it is not finished, and its `manifest.json`
//! afterwards. The state is written before what it allows: no event beyond `reserved` is sent before that is on the disk,
//! so that a run that goes on knows how far the one before it can have come, and does not end sooner. All that is not
//! known to be in both places is made and sent again: the same events, the same keys.

mod checkpointer;
mod folder;
mod pending_segments;
pub mod resume;

use std::collections::BTreeMap;

use event_model::Timestamp;
use lake::{Counts, End, Program, RunId};
use serde::{Deserialize, Serialize};

pub use checkpointer::{Allowance, Failed, Keeper, Watched};
pub use folder::{RunFolder, StateError, default_state_dir, unfinished_runs};
pub use pending_segments::{Checkpoints, Handed};

use crate::sinks::lake::Files;

/// The version of the form that is written here.
const STATE_VERSION: u32 = 1;

/// Flags as they were given: by the flag's long name, its values.
pub type Flags = BTreeMap<String, Vec<String>>;

/// A run that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The version of this form.
    pub version: u32,
    /// The run's name.
    pub run: RunId,
    /// Which program wrote this.
    pub program: Program,
    /// When the run began, by the clock.
    pub started_at: Timestamp,
    /// How often it was gone on with.
    pub resumes: u64,
    /// What decides its events.
    pub settings: serde_json::Value,
    /// Where they go.
    pub destination: Destination,
    /// How it was asked for, without what may be secret.
    pub flags: Flags,
    /// No index from here on has been sent.
    pub reserved: u64,
    /// Where it ends, once that is decided.
    pub sealed: Option<Sealed>,
    /// What is known to be stored.
    pub safe: Safe,
}

/// Where a run goes. All of it is part of what `--resume` must find again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The topic; none with `--no-kafka`.
    pub topic: Option<String>,
    /// The lake's address; none with `--no-lake`.
    pub lake: Option<String>,
    /// Indices of a segment.
    pub segment_indices: u64,
}

/// The end of a run whose last events are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The index after the last one.
    pub next_index: u64,
    /// Why it ends there.
    pub end: End,
}

/// The beginning of a run that is in all places where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safe {
    /// The number of the segment after it.
    pub next_segment: u64,
    /// The index after it.
    pub next_index: u64,
    /// What it has.
    pub counts: Counts,
    /// By partition, the offset after the last record that was acknowledged when this was written.
    pub end_offsets: BTreeMap<i32, i64>,
    /// Its files.
    pub files: Files,
}

impl RunState {
    /// A run that begins.
    #[must_use]
    pub fn begin(
        run: RunId,
        started_at: Timestamp,
        settings: serde_json::Value,
        destination: Destination,
        flags: Flags,
    ) -> Self {
        Self {
            version: STATE_VERSION,
            run,
            program: Program { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            started_at,
            resumes: 0,
            settings,
            destination,
            flags,
            reserved: 0,
            sealed: None,
            safe: Safe::default(),
        }
    }
}
