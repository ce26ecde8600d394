//! Tables of the sinks.

use crate::programs::TABLE;

/// Table that a sink writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keys {
    /// The table of `kafka-consumer`: daily partitions, each with a unique index on `event_id`.
    Own,
    /// A plain table with `event_id` as its primary key.
    Keyed,
    /// A plain table without an index. It keeps duplicates.
    Keyless,
}

impl Keys {
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Own => TABLE,
            Self::Keyed => "peers.keyed",
            Self::Keyless => "peers.keyless",
        }
    }
}
