//! Destinations of events: Kafka and the lake.

mod durable_prefix;
pub(crate) mod kafka;
pub(crate) mod lake;

pub(crate) use durable_prefix::{DurablePrefix, LakeFiles};
