//! The Kafka client, and requests to Kafka outside the group.

pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod fingerprint;
pub(crate) mod group_topic;
pub(crate) mod record_lookup;
pub(crate) mod start_offset;
pub(crate) mod topic_identity;
