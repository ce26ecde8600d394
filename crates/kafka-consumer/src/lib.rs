//! Kafka to PostgreSQL, effectively once.
//!
//! ```text
//!              ingest::source              ingest::batch::sorter        ingest::writer
//!   Kafka ───► polls partition queues, ──► puts the rows in the ─────► one transaction: ───► PostgreSQL
//!              validates records,          order of the key            offsets, rows,
//!              fills batches                                           dead letters
//!                 ▲                                                        │
//!                 └───────────── committed offsets (ingest::messages) ◄────┘
//! ```
//!
//! PostgreSQL owns the offsets: a batch's rows, its dead letters and the next offsets commit in one transaction.
//! The modules in the order of the data flow; imports point downwards only:
//!
//! - [`cli`]: parses the command line and dispatches
//! - [`commands`]: one module per subcommand: flags, execution and output
//! - [`ingest`]: from Kafka to PostgreSQL: source, batch, writer, offsets
//! - [`observability`]: counters, health, lag, metrics and the HTTP endpoints
//! - [`kafka`]: client, rebalance context, watermarks, record lookup
//! - [`postgres`]: sessions, error classes, migrations, table partitions

pub mod cli;
mod commands;
mod dead_letter;
mod failpoint;
mod ingest;
mod kafka;
mod observability;
mod postgres;

/// Sessions and refinement, for the integration tests.
pub use commands::refine::{RefineError, Refined, Request, refine};
pub use postgres::{connect, connect_at_start, resolve};

/// A writer without a source, for the conformance test.
#[cfg(feature = "failpoints")]
pub use ingest::writer::driven::DrivenWriter;

/// Conversion of events into rows, for the benchmarks.
pub use ingest::batch::{Limits, OpenBatch};
pub use ingest_protocol::position::RecordPosition;
