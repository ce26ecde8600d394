//! PostgreSQL: connections, session settings, error classes, migrations, table partitions and distributed tables.

pub(crate) mod cluster;
mod connection;
pub(crate) mod fault;
pub(crate) mod migrations;
pub(crate) mod old_snapshots;
pub(crate) mod owner;
mod parameters;
mod pooler;
mod session;
pub(crate) mod table_partitions;

pub(crate) use connection::describe;
pub use connection::{connect_at_start, resolve};
pub(crate) use fault::{Phase, PhaseError};
pub(crate) use parameters::{RowAddress, Timestamptz, bigint, quoted};
pub(crate) use pg_conninfo::Conninfo;
pub use session::connect;
