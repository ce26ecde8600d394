//! Errors of an attempt to write a batch.

use std::collections::BTreeMap;

use ingest_protocol::attempts::{Outcome, SqlFault};
use ingest_protocol::settlement::Settlement;
use tokio_postgres::error::SqlState;

use crate::ingest::writer::dead_letter_limit::DeadLetterLimitExceeded;
use crate::ingest::writer::refused_rows::RefusedRow;
use crate::ingest::writer::staged_insert::StagedInsertError;
use crate::postgres::fault::{Repeats, is_login_refusal};
use crate::postgres::{PhaseError, describe};

/// Error of an attempt, which did not commit.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The offsets of these partitions are not where this writer left them: another consumer moved them, or an earlier
    /// attempt has committed.
    Conflict(BTreeMap<i32, Settlement>),
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

/// Returns the outcome of a failed attempt, and counts its error.
pub(crate) fn outcome(error: &AttemptError, repeats: &mut Repeats) -> Outcome {
    match error {
        AttemptError::Conflict(_) => Outcome::Conflict,
        AttemptError::Failed(failed) => Outcome::Failed {
            fault: if is_login_refusal(&failed.error) { SqlFault::Retry } else { repeats.note(failed) },
            phase: failed.phase,
            duplicate: failed.error.code() == Some(&SqlState::UNIQUE_VIOLATION),
        },
        AttemptError::Suppressed => Outcome::Suppressed,
        AttemptError::Refused(_) => Outcome::Refused,
        AttemptError::NoRowPassed(_) => Outcome::NoRowPassed,
        AttemptError::NotOpened => Outcome::NotOpened,
        AttemptError::NoAnswer => Outcome::NoAnswer,
        AttemptError::Abandoned | AttemptError::DeadLetterLimitExceeded(_) => Outcome::GivenUp,
    }
}

impl AttemptError {
    /// Returns the message and the SQLSTATE for the log of a retry.
    pub(crate) fn described(&self) -> (String, Option<&SqlState>) {
        match self {
            Self::Failed(PhaseError { error, .. }) | Self::NoRowPassed(error) => (describe(error), error.code()),
            Self::NotOpened => ("no session".to_owned(), None),
            _ => ("no answer".to_owned(), None),
        }
    }
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
