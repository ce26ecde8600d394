//! The content of `state.json`.

use event_model::Timestamp;
use lake::{End, Program, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sinks::DurablePrefix;

/// Version of the format that this program reads and writes. Version 1 had other names for flags and fields.
pub(crate) const STATE_VERSION: u32 = 2;

/// An unfinished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) version: u32,
    pub(crate) run: RunId,
    /// Program that started the run or resumed it last.
    pub(crate) program: Program,
    pub(crate) started_at: Timestamp,
    /// Number of times the run was resumed.
    pub(crate) resumes: u64,
    /// Settings that determine the events.
    pub(crate) settings: Value,
    pub(crate) destination: Destination,
    /// Flags that a resume repeats. None of them holds a secret.
    pub(crate) flags: Value,
    /// End of the indices that may have been sent.
    pub(crate) reserved: u64,
    /// End of the run, once it is decided.
    pub(crate) run_end: Option<RunEnd>,
    pub(crate) durable_prefix: DurablePrefix,
}

/// Destination of a run. A resume must not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Destination {
    /// Kafka topic; none with `--no-kafka`.
    pub(crate) topic: Option<String>,
    /// Address of the lake; none with `--no-lake`.
    pub(crate) lake: Option<String>,
    /// Number of indices in a segment.
    pub(crate) segment_indices: u64,
}

/// End of a run. It is written before the last, shorter segment may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEnd {
    /// Index after the last event.
    pub(crate) next_index: u64,
    pub(crate) reason: End,
}

impl RunState {
    /// Creates the state of a new run.
    pub(crate) fn new(
        run: RunId,
        started_at: Timestamp,
        settings: Value,
        destination: Destination,
        flags: Value,
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
            run_end: None,
            durable_prefix: DurablePrefix::default(),
        }
    }
}
