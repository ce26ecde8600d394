//! What must not break the consumer, each fault with the proof that it happened, judged from the stores alone.
//!
//! `make test` runs the quick ones, `make test-faults` all of them.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "tests")]

mod commits;
mod endings;
mod group;
mod kills;
mod member;
mod memory;
mod network;
mod owners_table;
mod poison;
mod postgres;
mod recreated;
mod retention;
mod sqlstates;
#[path = "../support/mod.rs"]
mod support;
mod topic;
mod transactions;
