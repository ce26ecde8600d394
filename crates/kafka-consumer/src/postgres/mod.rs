//! PostgreSQL: connections, session settings, error classes, migrations and table partitions.

mod connection;
pub(crate) mod fault;
pub(crate) mod migrations;
pub(crate) mod old_snapshots;
mod parameters;
mod pooler;
mod session;
pub(crate) mod table_partitions;

pub(crate) use connection::describe;
pub use connection::{connect_at_start, resolve};
pub(crate) use fault::{Phase, PhaseError};
pub(crate) use parameters::{RowAddress, Timestamptz, bigint};
pub(crate) use pg_conninfo::Conninfo;
pub use session::connect;
