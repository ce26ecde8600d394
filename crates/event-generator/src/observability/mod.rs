//! What a run shows of itself.

pub mod endpoints;
pub mod lateness;
pub mod metrics;
pub mod run_stats;
pub mod summary;
