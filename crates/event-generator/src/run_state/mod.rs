//! The state of a run on this host, for a resume after a kill.
//!
//! `<state-dir>/<run>/` contains the run's `lock`, its `state.json` until it is finished, and its `manifest.json`
//! afterwards. A limit is written to disk before it applies: no event beyond `reserved` is sent earlier. So a resumed
//! run knows the maximum number of events that may have been sent and does not end before it.
//!
//! The state has two prefixes of the run, because the sinks store different units:
//!
//! - `durable_prefix`: the first segments, stored in all sinks. The lake continues after it, with whole segments.
//! - `acknowledged`: the first events, acknowledged by Kafka. The dispatcher continues after it, so a resumed run sends
//!   the records of about one checkpoint interval again.
//!
//! Events that are generated again have the same content and the same keys.

mod checkpointer;
mod folder;
mod inventory;
mod pending_blocks;
mod resume;
mod state;

pub(crate) use checkpointer::{CheckpointFailed, Checkpointer, Reservation, SinkProgress};
pub(crate) use folder::{RunFolder, default_state_dir, unfinished_runs};
pub(crate) use inventory::{LocalRun, LocalStatus, local_runs, remove};
pub(crate) use pending_blocks::{PendingBlock, PendingBlocks};
pub(crate) use resume::{OpenedRun, RunHandle, RunRequest, StartMode, open_run};
pub(crate) use state::{Destination, RunEnd, RunState};
