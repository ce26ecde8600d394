//! Configuration of the source.

use std::sync::Arc;
use std::time::Duration;

use event_model::Window;
use pipeline_runtime::shutdown::ShutdownDeadline;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::ingest::batch::open::Limits;
use crate::ingest::offsets::resume::Resume;
use crate::observability::health::Health;
use crate::observability::lag::PartitionEnds;

/// What the source needs to know.
pub(crate) struct SourceConfig {
    /// Whose offsets of which topic, and where they are looked up.
    pub(crate) resume: Resume,
    /// When batches are closed.
    pub(crate) limits: Limits,
    /// How far events may lie from their records.
    pub(crate) window: Window,
    /// End when everything up to the ends of all partitions is committed.
    pub(crate) until_caught_up: bool,
    /// Maximum wait of such a run for an open transaction.
    pub(crate) open_transaction_timeout: Duration,
    /// The ends of the partitions.
    pub(crate) ends: Arc<PartitionEnds>,
    /// End as soon as what is in hand is handed over.
    pub(crate) shutdown: ShutdownDeadline,
    /// Cancelled when nothing more may be committed.
    pub(crate) give_up: CancellationToken,
    /// Where asynchronous work is done.
    pub(crate) runtime: Handle,
    /// Told how it goes.
    pub(crate) health: Arc<Health>,
}
