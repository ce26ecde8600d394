//! What both programs share at run time: how they speak to the terminal and the log, how they end, how they
//! reach Kafka and the lake, and how they are seen from outside.

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

/// The command that starts the local stack, for messages about a service that does not answer.
pub const START_LOCAL_STACK: &str = "cargo run -p local-stack -- up";
