//! The state of a run on this host, for a resume after a kill.
//!
//! `<state-dir>/<run>/` contains the run's `lock`, its `state.json` until it is finished, and its `manifest.json`
//! afterwards. A limit is written to disk before it applies: no event beyond `reserved` is sent earlier. So a resumed
//! run knows the maximum number of events that may have been sent and does not end before it. Events that are not known
//! to be stored in all sinks are generated and sent again, with the same content under the same keys.

mod checkpointer;
mod folder;
mod inventory;
mod pending_segments;
mod resume;
mod state;

pub(crate) use checkpointer::{CheckpointFailed, Checkpointer, Reservation, SinkProgress};
pub(crate) use folder::{RunFolder, default_state_dir, unfinished_runs};
pub(crate) use inventory::{LocalRun, LocalStatus, local_runs, remove};
pub(crate) use pending_segments::{PendingSegment, PendingSegments};
pub(crate) use resume::{OpenedRun, RunHandle, RunRequest, StartMode, open_run};
pub(crate) use state::{Destination, RunEnd, RunState};
