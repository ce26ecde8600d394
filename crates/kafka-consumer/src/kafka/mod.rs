//! The Kafka client and what is asked of it beside the group.

pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod fingerprint;
pub(crate) mod group_topic;
pub(crate) mod record_lookup;
pub(crate) mod start_offset;
pub(crate) mod topic_identity;

pub use fingerprint::RecordPosition;
