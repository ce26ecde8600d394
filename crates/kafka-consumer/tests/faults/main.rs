//! What must not break the consumer, each fault with the proof that it happened, verified from the stores alone.
//!
//! `make test` runs the quick ones, `make test-faults` all of them.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "tests")]

mod commits;
mod consumer_process;
mod group;
mod kills;
mod memory;
mod network;
mod owners_table;
mod poison;
mod postgres;
mod recreated_topic;
mod retention;
mod shutdown;
mod sqlstates;
#[path = "../support/mod.rs"]
mod support;
mod test_topic;
mod transactions;
