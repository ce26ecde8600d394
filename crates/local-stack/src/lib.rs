//! Kafka, PostgreSQL and S3 as child processes, without containers.
//!
//! Tests start a [`Stack`], or a single server, on free ports with temporary data. Developers run `local-stack up`,
//! which is [`Resident`]: the same servers on the default ports of the pipeline's programs, with their data in
//! `.local-stack/data`, until `local-stack down`. `scripts/setup` fetches the servers' programs. Linux only: processes
//! and ports are read from /proc.
//!
//! - [`certificates`]: certificates for servers with TLS
//! - [`kafka`], [`postgres`], [`s3`]: preparation, start and health check of each server
//! - [`kafka_security`]: a broker with TLS, SASL and ACLs
//! - [`service`]: the trait of the three servers, and the wait until they answer
//! - [`server`]: a server as a child process of a test; [`watch`] ends it if the test is killed
//! - [`stack`]: all three servers
//! - [`resident`]: all three servers, outliving the program that started them
//! - [`program`]: the pipeline's programs as child processes of a tool
//! - [`proxy`]: a TCP proxy for tests that cuts, slows down and swallows connections
//! - `places`, `account`, `ports`, `process`: folders, PostgreSQL's account, port owners, processes and signals

mod account;
pub mod certificates;
pub mod defaults;
mod ends;
mod error;
pub mod kafka;
pub mod kafka_security;
mod name;
mod places;
mod ports;
pub mod postgres;
mod process;
pub mod program;
pub mod proxy;
pub mod raw_producer;
pub mod resident;
pub mod s3;
pub mod server;
pub mod service;
pub mod stack;
pub mod watch;

pub use ends::end_offsets;
pub use error::StackError;
pub use kafka::Kafka;
pub use name::Name;
pub use places::stack_folder;
pub use ports::free as free_port;
pub use postgres::Postgres;
pub use process::Holder;
pub use proxy::Proxy;
pub use resident::Resident;
pub use s3::{S3, S3Access};
pub use stack::Stack;
pub use watch::Watch;
