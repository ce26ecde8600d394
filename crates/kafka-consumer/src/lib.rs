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
//! Modules in the order of the flow, an import points downwards only:
//!
//! - [`cli`]: parses the command line and dispatches
//! - [`commands`]: one module per subcommand: its flags, its work, its output
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

/// Sessions and refinement, as the integration tests call them.
pub use commands::refine::{RefineError, Refined, Request, refine};
pub use postgres::{connect, connect_at_start, resolve};

/// The step from an event to a row, as the benchmarks measure it.
pub use ingest::batch::{Limits, OpenBatch};
pub use kafka::RecordPosition;
