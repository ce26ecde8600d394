//! Runtime shared by both programs.
//!
//! It covers the command line and its units, terminal and log, shutdown and exit codes, access to Kafka and the lake,
//! metrics and HTTP endpoints.

pub mod environment;
pub mod exit;
mod exit_code;
pub mod failpoint;
pub mod healthcheck;
pub mod http;
pub mod kafka;
pub mod lake;
pub mod metrics;
pub mod output;
pub mod panics;
pub mod progress;
pub mod shutdown;
pub mod telemetry;
pub mod units;

#[cfg(test)]
mod fuzz;

/// Command that starts the local stack, for messages about a service that does not respond.
pub const START_LOCAL_STACK: &str = "cargo run -p local-stack -- up";
