//! Configuration of the source.

use std::sync::Arc;
use std::time::Duration;

use event_model::Window;
use pipeline_runtime::shutdown::ShutdownDeadline;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::ingest::batch::open::Limits;
use crate::ingest::memory_budget::PartitionQueues;
use crate::ingest::offsets::resume::Resume;
use crate::observability::health::Health;
use crate::observability::lag::PartitionEnds;

pub(crate) struct SourceConfig {
    /// Loads and checks the positions of partitions.
    pub(crate) resume: Resume,
    /// Queues that librdkafka delivers the records in.
    pub(crate) queues: PartitionQueues,
    /// Limits of a batch.
    pub(crate) limits: Limits,
    /// Accepted range of event timestamps, relative to their records.
    pub(crate) window: Window,
    /// End reading once all partitions are committed up to their ends.
    pub(crate) until_caught_up: bool,
    /// Maximum wait of such a run for an open Kafka transaction.
    pub(crate) open_transaction_timeout: Duration,
    /// Maximum time for which a server may refuse the login.
    pub(crate) login_grace: Duration,
    /// Ends of the partitions, and the transactions that hold records back.
    pub(crate) ends: Arc<PartitionEnds>,
    /// Ends reading once requested. Records that were already read are still handed to the writers.
    pub(crate) shutdown: ShutdownDeadline,
    /// Cancelled when nothing more may be committed.
    pub(crate) give_up: CancellationToken,
    /// Runtime for asynchronous work. The source itself runs on a dedicated thread.
    pub(crate) runtime: Handle,
    /// Receives health updates.
    pub(crate) health: Arc<Health>,
}
