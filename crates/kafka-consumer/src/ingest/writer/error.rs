//! Why a writer gives up.

use thiserror::Error;

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::kafka::record_lookup::RecordLookupError;
use crate::postgres::describe;

/// Why a writer ends before it is told to.
#[derive(Debug, Error)]
pub(crate) enum WriterError {
    /// PostgreSQL's error is none that waiting would mend.
    #[error("PostgreSQL at {target}: {}; nothing of the batch was written, the offsets are untouched", describe(.error))]
    Postgres {
        /// The server.
        target: String,
        /// Its error.
        error: tokio_postgres::Error,
    },
    /// The end was asked for while PostgreSQL was away.
    #[error(
        "PostgreSQL at {target} did not come back in time: {records} records are not committed; they are read again at the next start"
    )]
    Abandoned {
        /// The server.
        target: String,
        /// Records in the batch.
        records: u64,
    },
    /// Too many dead letters.
    #[error("{0}")]
    DeadLetterLimitExceeded(DeadLetterLimitExceeded),
    /// A row that PostgreSQL refuses could not be kept as a dead letter.
    #[error("a row that PostgreSQL refuses could not be kept as a dead letter, its batch was not written: {0}")]
    NotReread(RecordLookupError),
}
