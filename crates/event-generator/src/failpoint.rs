//! Places where a test makes this process die or stand still: see [`pipeline_runtime::failpoint`].

pub(crate) use pipeline_runtime::failpoint::pass;

/// A thread is about to make a block of events.
pub(crate) const BEFORE_BLOCK: &str = "before-block";
/// A record is in the client's queue.
pub(crate) const AFTER_SEND: &str = "after-send";
/// Kafka has acknowledged a record, and nobody was told.
pub(crate) const AFTER_ACK: &str = "after-ack";
/// A file is made and not yet in the lake.
pub(crate) const BEFORE_PUT: &str = "before-put";
/// A file is in the lake, and nobody was told.
pub(crate) const AFTER_PUT: &str = "after-put";
/// The run's state is on the disk.
pub(crate) const AFTER_STATE: &str = "after-state";
/// All is stored but for the manifest.
pub(crate) const BEFORE_MANIFEST: &str = "before-manifest";
