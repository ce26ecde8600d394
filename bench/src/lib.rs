//! What the micro-benchmarks and the count of instructions share.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a development program fails by panicking")]

pub mod hot_path;
