//! Failpoints of the consumer, at which tests kill, stop or block the process: see [`pipeline_runtime::failpoint`].

pub(crate) use pipeline_runtime::failpoint::pass;

/// The source begins another round.
pub(crate) const READING: &str = "reading";
/// The writers have ended, and the consumer is about to leave the group.
pub(crate) const LEAVING: &str = "leaving";
/// The table partitions exist, and the transaction has not begun.
pub(crate) const AFTER_PARTITION: &str = "after-partition";
/// The transaction has advanced the offsets.
pub(crate) const AFTER_CAS: &str = "after-cas";
/// The rows of a COPY were sent, and PostgreSQL waits for its end.
pub(crate) const DURING_COPY: &str = "during-copy";
/// The transaction has inserted the rows.
pub(crate) const AFTER_COPY: &str = "after-copy";
/// The transaction is complete, and COMMIT has not been sent.
pub(crate) const BEFORE_COMMIT: &str = "before-commit";
/// The transaction is committed, and the commit has not been reported.
pub(crate) const AFTER_COMMIT: &str = "after-commit";
