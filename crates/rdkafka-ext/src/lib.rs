//! Calls of librdkafka that the `rdkafka` crate does not offer.
//!
//! - [`topic_id()`]: the ID that a cluster gives a topic when it is created (KIP-516)
//! - [`headers()`]: a record's headers with their names as bytes
//!
//! All unsafe code of the workspace is in this crate.

mod headers;
mod topic_id;

pub use headers::{Header, headers};
pub use topic_id::topic_id;
