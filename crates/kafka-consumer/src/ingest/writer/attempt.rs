//! Outcome of an attempt to write a batch, and the mode of its insert.

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::ingest::writer::staged_insert::StagedInsertError;
use crate::postgres::PhaseError;

/// How the rows go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertMode {
    /// Straight into the table: nearly always every row is new and good.
    Copy,
    /// Within savepoints, after a lookup of the rows that are in the table already: a row is a duplicate, or is refused, or
    /// is suppressed by a trigger. In chunks if a row is refused for sure.
    Staged { chunked: bool },
}

/// Why an attempt did not commit.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The partition's offset is not where this writer left it: another consumer has it.
    Moved(i32),
    /// PostgreSQL's error. At the commit it may leave open whether the transaction is in.
    Failed(PhaseError),
    /// A trigger left rows out, so they have to be counted partition by partition.
    Suppressed,
    /// Rows that PostgreSQL refuses. The transaction is rolled back, so that their records are read from Kafka outside it.
    Refused(Vec<RefusedRow>),
    /// A transient error that repeats, and that every row meets.
    NoRowPassed(tokio_postgres::Error),
    /// PostgreSQL lets nobody in, and says nothing.
    NotOpened,
    /// PostgreSQL says nothing at all; the transaction may be in.
    NoAnswer,
    /// The end was asked for, and PostgreSQL is not waited for any longer.
    Abandoned,
    /// Too many dead letters.
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
