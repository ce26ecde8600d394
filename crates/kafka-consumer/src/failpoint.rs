//! Places where a test makes this process die or stand still: see [`pipeline_runtime::failpoint`].

pub(crate) use pipeline_runtime::failpoint::pass;

/// The reading thread begins another round.
pub(crate) const READING: &str = "reading";
/// The writers have ended, and the group is about to be left.
pub(crate) const LEAVING: &str = "leaving";
/// The day's partitions are there, the transaction has not begun.
pub(crate) const AFTER_PARTITION: &str = "after-partition";
/// The offsets are moved.
pub(crate) const AFTER_CAS: &str = "after-cas";
/// Rows were sent, and PostgreSQL waits for more of them.
pub(crate) const DURING_COPY: &str = "during-copy";
/// The rows are in.
pub(crate) const AFTER_COPY: &str = "after-copy";
/// All is in.
pub(crate) const BEFORE_COMMIT: &str = "before-commit";
/// The transaction is in, and nobody was told.
pub(crate) const AFTER_COMMIT: &str = "after-commit";
