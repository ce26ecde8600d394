//! Tests of the program against real servers.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod early_stop;
mod end_to_end;
mod kafka_outages;
mod network_faults;
#[allow(dead_code, reason = "the tests of faults use the rest")]
mod program;
mod servers;
mod startup_errors;
mod stores;
