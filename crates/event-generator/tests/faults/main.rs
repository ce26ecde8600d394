//! Faults of the generator and its servers. Each test proves that the fault happened and verifies the stores afterwards.
//!
//! `make test` runs the quick ones, `make test-faults` all of them.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking and uses a part of the shared modules"
)]

mod fake_s3;
mod full_disk;
mod http_endpoints;
mod lake_faults;
mod memory_limit;
mod panics;
#[path = "../generator/program.rs"]
mod program;
mod resume_after_kill;
#[path = "../generator/servers.rs"]
mod servers;
#[path = "../generator/stores.rs"]
mod stores;
mod suspended_processes;
mod verification;
mod without_lake;
