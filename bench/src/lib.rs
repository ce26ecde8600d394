//! Steps shared by the micro-benchmarks and the instruction counts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a development program fails by panicking")]

pub mod hot_path;
