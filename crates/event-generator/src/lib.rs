//! Generates product events and publishes them to Kafka and to a lake of Parquet files.
//!
//! ```text
//!  cli            flags
//!   |
//!  commands::run  run configuration, connections, run state
//!   |
//!  pipeline
//!   |
//!   |   block_plan ---> workers ----> block ------> dispatch ----+---> sinks::kafka   records, in index order, when due
//!   |   ranges of       threads       generated,    one thread   |
//!   |   indices                       validated                  +---> sinks::lake    numbers of complete segments,
//!   |                                                            |                    written to raw/ and quarantine/
//!   |                                                            |
//!   |                                                            +---> run_state      pending blocks; a checkpoint
//!   |                                                            |                    of what the sinks have stored
//!   |                                                            |
//!   |                                                            +---> observability  counts, lateness
//!   |
//!  manifest, summary
//! ```
//!
//! Event `i` is a pure function of the run's settings and of `i` (crate `workload`). So a killed run resumes by sending
//! the same events again from the last checkpoint on, and each sink can generate a range for itself.
//!
//! A module imports only modules below it in this list.

pub mod cli;
mod commands;

pub mod pipeline;
mod run_state;

mod observability;
mod sinks;
pub mod validate;

mod clock;
mod failpoint;
mod memory;

#[cfg(test)]
mod test_source;
