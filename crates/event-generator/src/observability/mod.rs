//! Counts, metrics, HTTP endpoints, progress line and summary of a run.

mod draft_schedule;
mod endpoints;
mod metrics;
mod monitor;
mod run_counts;
mod run_stats;
mod summary;

pub(crate) use endpoints::{DEFAULT_ADDRESS, HttpEndpoints};
pub(crate) use monitor::Monitor;
pub(crate) use run_counts::{RunCounts, SentEvents};
pub(crate) use run_stats::{KafkaStats, LakeStats, RunStats};
pub(crate) use summary::Summary;
