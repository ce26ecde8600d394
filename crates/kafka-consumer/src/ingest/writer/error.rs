//! Errors that end a writer.

use thiserror::Error;

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::kafka::record_lookup::RecordLookupError;
use crate::postgres::describe;

/// Error that ends a writer early.
#[derive(Debug, Error)]
pub(crate) enum WriterError {
    /// PostgreSQL reported a permanent error, or one that remained after several repairs.
    #[error("PostgreSQL at {target}: {}; nothing of the batch was written, the offsets are untouched", describe(.error))]
    Postgres {
        /// Host and database.
        target: String,
        error: tokio_postgres::Error,
    },
    /// The writer stopped retrying, for example because of a shutdown during an outage.
    #[error(
        "PostgreSQL at {target} did not come back in time: {records} records are not committed; they are read again at the next start"
    )]
    Abandoned {
        target: String,
        /// Number of records in the batch.
        records: u64,
    },
    #[error("{0}")]
    DeadLetterLimitExceeded(DeadLetterLimitExceeded),
    /// The record of a refused row could not be read again for its dead letter.
    #[error("a row that PostgreSQL refuses could not be kept as a dead letter, its batch was not written: {0}")]
    NotReread(RecordLookupError),
}
