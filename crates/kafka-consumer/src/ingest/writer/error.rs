//! Errors that end a writer.

use thiserror::Error;
use tokio_postgres::error::SqlState;

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::kafka::record_lookup::RecordLookupError;
use crate::postgres::describe;

/// Error that ends a writer early.
#[derive(Debug, Error)]
pub(crate) enum WriterError {
    /// PostgreSQL reported a permanent error, or one that remained after several repairs.
    #[error(
        "cannot write a batch to PostgreSQL at {target}: {}; the batch was rolled back, offsets are unchanged{}",
        describe(.error),
        hint(.error)
    )]
    Postgres {
        /// Host and database.
        target: String,
        error: tokio_postgres::Error,
    },
    /// The writer stopped retrying, for example because of a shutdown during an outage.
    #[error(
        "PostgreSQL at {target} is unavailable: {records} records are not committed; start the consumer again to reread them"
    )]
    Abandoned {
        target: String,
        /// Number of records in the batch.
        records: u64,
    },
    #[error("{0}")]
    DeadLetterLimitExceeded(DeadLetterLimitExceeded),
    /// The record of a refused row could not be read again for its dead letter.
    #[error("cannot store a dead letter for a row that PostgreSQL refused: {0}; the batch was rolled back")]
    NotReread(RecordLookupError),
}

/// Returns the remedy for an error of the encoding: PostgreSQL names neither the column nor its type.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    match error.code().map(SqlState::code) {
        Some("08P01" | "22P03" | "22P04") => {
            "; a column has another type than the events' field: 'kafka-consumer doctor' names it"
        }
        _ => "",
    }
}
