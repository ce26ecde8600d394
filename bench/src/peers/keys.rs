//! Tables that the sinks write into.

use crate::programs::TABLE;

/// The table that a sink writes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keys {
    /// kafka-consumer's, in partitions by day, each with a unique index on `event_id`
    Own,
    /// A plain table with `event_id` as its primary key
    Keyed,
    /// A plain table without an index: what comes twice is there twice
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
