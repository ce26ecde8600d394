//! Faults that must not break the consumer. Each test proves that its fault happened and verifies the result from the
//! stores alone.
//!
//! `make test` runs the fast tests, `make test-faults` all of them, and `make test-citus` those that need a Citus cluster.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "tests")]

mod citus;
mod commits;
mod consumer_process;
mod failover;
mod group;
mod kafka_connection;
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
mod table_partitions;
mod test_topic;
mod transactions;
mod turns;
