//! Batches: the records of one transaction.

pub(crate) mod closed;
pub(crate) mod open;
pub(crate) mod recent_ids;
pub(crate) mod rows;
pub(crate) mod sorted_rows;
pub(crate) mod sorter;

pub use open::{Limits, OpenBatch};
