//! Failpoints at which a test kills or stops this process; see [`pipeline_runtime::failpoint`].

pub(crate) use pipeline_runtime::failpoint::pass;

/// A worker is about to generate a block.
pub(crate) const BEFORE_BLOCK: &str = "before-block";
/// A record is in the client's queue.
pub(crate) const AFTER_SEND: &str = "after-send";
/// Kafka acknowledged a record that is not yet counted.
pub(crate) const AFTER_ACK: &str = "after-ack";
/// A file is encoded and not yet uploaded.
pub(crate) const BEFORE_PUT: &str = "before-put";
/// A file is uploaded and not yet counted.
pub(crate) const AFTER_PUT: &str = "after-put";
/// The run's state is on disk.
pub(crate) const AFTER_STATE: &str = "after-state";
/// All events are stored; the manifest is not.
pub(crate) const BEFORE_MANIFEST: &str = "before-manifest";
