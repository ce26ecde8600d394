//! Tests of the program against real servers. `support` starts them and runs the programs.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "tests")]

mod add_a_field;
mod checks;
mod closed_output;
mod command_line;
mod connection_settings;
mod conversion_funnel;
mod dead_letters;
mod doctor;
mod effectively_once;
mod features;
mod fields;
mod foreign_events;
mod http_endpoints;
mod kafka_secured;
mod latency;
mod many_partitions;
mod odd_records;
mod offsets;
mod page;
mod pgbouncer;
mod postgres_tls;
mod rebuild;
mod reconcile;
mod retention;
mod rewritten_lake;
mod roles;
mod secrets;
mod session_settings;
#[path = "../support/mod.rs"]
mod support;
