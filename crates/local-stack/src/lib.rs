//! Kafka, PostgreSQL and S3 as child processes, without containers.
//!
//! Two uses. Tests start a [`Stack`], or one server alone, on free ports and throw it away. People run `local-stack up`, which
//! is [`Resident`]: the same servers on the ports that the programs have as defaults, with their data in `.local-stack/data`,
//! until `local-stack down`. The servers' programs are fetched by `scripts/setup`. Linux only: processes and ports are looked
//! up in /proc.
//!
//! - [`certificates`]: for servers that are asked for TLS
//! - [`kafka`], [`postgres`], [`s3`]: how each server is prepared, started and asked whether it works
//! - [`kafka_security`]: a broker that wants TLS and a login
//! - [`service`]: what they have in common, and the wait for an answer
//! - [`server`]: one of them as a child of a test; [`watch`] ends it when the test is killed
//! - [`stack`]: all three
//! - [`resident`]: all three as servers that outlive the program that started them
//! - [`program`]: our programs as children of a tool
//! - [`proxy`]: a connection that can be cut, slowed down and swallowed, for tests
//! - `places`, `account`, `ports`, `process`: folders, whom PostgreSQL runs as, who listens where, processes and signals

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
