//! Errors of an attempt to write a batch, and modes of its insert.

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::ingest::writer::staged_insert::StagedInsertError;
use crate::postgres::PhaseError;

/// Mode of inserting the rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertMode {
    /// One COPY into the table, for the usual case that all rows are new and valid.
    Copy,
    /// COPY within savepoints, after a lookup of the rows that are in the table already. Handles duplicates, refused
    /// rows, and rows that a trigger suppresses. Starts with chunks if a row is known to be refused.
    Staged { chunked: bool },
}

/// Error of an attempt, which did not commit.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The partition's offset is not where this writer left it: another consumer has moved it.
    Moved(i32),
    /// PostgreSQL reported an error, or the connection failed. At COMMIT the outcome may be unknown.
    Failed(PhaseError),
    /// A trigger suppressed rows, so they have to be counted by partition.
    Suppressed,
    /// PostgreSQL refused these rows. The transaction is rolled back, so that their records are read from Kafka outside
    /// it.
    Refused(Vec<RefusedRow>),
    /// A transient error that is repeated and that every row met.
    NoRowPassed(tokio_postgres::Error),
    /// PostgreSQL did not open a session in time.
    NotOpened,
    /// PostgreSQL did not answer in time. The transaction may have committed.
    NoAnswer,
    /// The attempt was cancelled, for example by a shutdown.
    Abandoned,
    DeadLetterLimitExceeded(DeadLetterLimitExceeded),
}

impl From<tokio_postgres::Error> for AttemptError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<PhaseError> for AttemptError {
    fn from(error: PhaseError) -> Self {
        Self::Failed(error)
    }
}

impl From<StagedInsertError> for AttemptError {
    fn from(error: StagedInsertError) -> Self {
        match error {
            StagedInsertError::Failed(error) => Self::Failed(error),
            StagedInsertError::NoRowPassed(error) => Self::NoRowPassed(error),
        }
    }
}
