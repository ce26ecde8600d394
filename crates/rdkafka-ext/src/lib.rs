//! Functions of librdkafka that the `rdkafka` crate does not expose.
//!
//! - [`topic_id()`]: the ID that a cluster assigns to a topic on creation (KIP-516)
//! - [`headers()`]: the headers of a record with their names as bytes
//! - [`position()`]: the position of a single partition
//!
//! All unsafe code of the workspace is in this crate.

mod headers;
mod position;
mod topic_id;

pub use headers::{Header, headers};
pub use position::position;
pub use topic_id::topic_id;
