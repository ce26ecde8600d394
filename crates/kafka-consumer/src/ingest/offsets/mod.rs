//! Offsets in PostgreSQL, which move in the transactions that insert the rows.
//!
//! - [`first_start`]: initial offsets of a group that has never read the topic
//! - [`resume`]: positions of a group that has read the topic, checked against Kafka
//! - [`updates`]: compare-and-set of the offsets, and correction of their counts

pub(crate) mod corrections;
pub(crate) mod first_start;
pub(crate) mod resume;
pub(crate) mod updates;
