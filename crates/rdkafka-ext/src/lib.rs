//! Functions of librdkafka that the `rdkafka` crate does not expose.
//!
//! - [`topic_id()`]: the ID that a cluster assigns to a topic on creation (KIP-516)
//! - [`headers()`]: the headers of a record with their names as bytes
//! - [`position()`]: the position of a single partition
//! - [`set_sasl_credentials`]: a new user and password for a running client
//!
//! All unsafe code of the workspace is in this crate.

mod credentials;
mod headers;
mod position;
mod topic_id;

pub use credentials::set_sasl_credentials;
pub use headers::{Header, headers};
pub use position::position;
pub use topic_id::topic_id;
