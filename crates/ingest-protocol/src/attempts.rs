//! Attempts to commit a batch, and the next step after each outcome.

use crate::mutants::{Mutant, mutated};

/// Maximum number of repairs per batch (another insert mode or a new session), after which such an error is permanent.
const MAX_REPAIRS: u32 = 10;

/// Mode of inserting the rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InsertMode {
    /// One COPY into the table, for the usual case that all rows are new and valid.
    Copy,
    /// COPY within savepoints, after a lookup of the rows that are in the table already. Handles duplicates, refused
    /// rows, and rows that a trigger suppresses.
    Staged {
        /// Starts with chunks, because a row is known to be refused.
        chunked: bool,
    },
}

/// Remedy for an error of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SqlFault {
    /// Transient: retry the same batch after a delay.
    Retry,
    /// The table partition of a day is missing: create it, then retry.
    NoPartition,
    /// Rows of the batch caused it: find them, and insert the others.
    Row,
    /// Permanent, and not caused by a row.
    Stop,
}

/// Part of a transaction in which an error was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A statement that inserts no rows, or a COPY that had not received a row yet.
    Statement,
    /// A COPY that had received rows, or the check of deferred constraints after it.
    Rows,
    /// The COMMIT, which runs deferred triggers. Without an answer from the server its outcome is unknown.
    Commit,
}

/// Outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The transaction committed.
    Committed,
    /// The compare-and-set of at least one partition failed. The transaction is rolled back and the failed partitions
    /// are settled.
    Conflict,
    /// A trigger suppressed rows, so they have to be counted by partition. The transaction is rolled back.
    Suppressed,
    /// PostgreSQL refused rows, which are known now. The transaction is rolled back.
    Refused,
    /// PostgreSQL did not open a session in time.
    NotOpened,
    /// PostgreSQL did not answer in time. The transaction may have committed.
    NoAnswer,
    /// A transient error that is repeated and that every row met.
    NoRowPassed,
    /// A shutdown or the dead-letter limit ended the attempt.
    GivenUp,
    /// PostgreSQL reported an error, or the connection failed.
    Failed {
        /// Remedy for the error.
        fault: SqlFault,
        /// Part of the transaction.
        phase: Phase,
        /// The error is a violated unique index.
        duplicate: bool,
    },
}

/// Next step for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// The batch is committed.
    Done,
    /// Write the parts that are left again, with the same bytes.
    Retry(Retry),
    /// Read the refused records again, outside of the transaction, and write them as dead letters.
    AddDeadLetters,
    /// Stop: the error is permanent, or the batch was given up.
    Stop,
}

/// Conditions of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Open a new session first.
    pub new_session: bool,
    /// Delay before the attempt.
    pub delay: Delay,
}

/// Delay before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delay {
    /// No delay.
    None,
    /// No delay, and later delays start again at the minimum, because the next error concerns another row.
    Restart,
    /// The next delay of the retry policy.
    Backoff,
}

impl Retry {
    const AT_ONCE: Self = Self { new_session: false, delay: Delay::None };
    const AFTER_DELAY: Self = Self { new_session: true, delay: Delay::Backoff };
}

/// State of a batch over the attempts to commit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempts {
    mode: InsertMode,
    in_doubt: bool,
    repairs: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { mode: InsertMode::Copy, in_doubt: false, repairs: 0 }
    }
}

impl Attempts {
    /// Returns the insert mode of the next attempt.
    #[must_use]
    pub const fn mode(&self) -> InsertMode {
        self.mode
    }

    /// Returns true if an earlier attempt may have committed.
    #[must_use]
    pub const fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Takes the outcome of an attempt and returns the next step.
    pub fn step(&mut self, outcome: Outcome) -> Next {
        let next = self.decide(outcome);
        match next {
            Next::Retry(retry) if mutated(Mutant::FailedSessionKept) => {
                Next::Retry(Retry { new_session: false, ..retry })
            }
            next => next,
        }
    }

    fn decide(&mut self, outcome: Outcome) -> Next {
        if mutated(Mutant::DoubtForgotten) {
            self.in_doubt = false;
        }
        match outcome {
            Outcome::Committed => Next::Done,
            Outcome::Conflict => Next::Retry(Retry::AT_ONCE),
            Outcome::Suppressed => {
                self.mode = InsertMode::Staged { chunked: false };
                Next::Retry(Retry::AT_ONCE)
            }
            Outcome::Refused => Next::AddDeadLetters,
            // A session that was not opened is opened by the next attempt anyway.
            Outcome::NotOpened | Outcome::NoRowPassed => Next::Retry(Retry::AFTER_DELAY),
            Outcome::NoAnswer => {
                // The COMMIT may have reached the server.
                self.in_doubt = !mutated(Mutant::NoAnswerNotInDoubt);
                Next::Retry(Retry::AFTER_DELAY)
            }
            Outcome::GivenUp => Next::Stop,
            Outcome::Failed { fault, phase, duplicate } => self.failed(fault, phase, duplicate),
        }
    }

    fn failed(&mut self, fault: SqlFault, phase: Phase, duplicate: bool) -> Next {
        match fault {
            SqlFault::Row if self.repairs < MAX_REPAIRS => {
                self.repairs += 1;
                if !mutated(Mutant::ModeKept) {
                    self.mode = InsertMode::Staged { chunked: !duplicate };
                }
                Next::Retry(Retry { new_session: false, delay: Delay::Restart })
            }
            SqlFault::NoPartition if self.repairs < MAX_REPAIRS => {
                self.repairs += 1;
                // A new session no longer assumes that the table partition exists, and creates it.
                Next::Retry(Retry { new_session: true, delay: Delay::None })
            }
            SqlFault::Retry => {
                self.in_doubt |= phase == Phase::Commit && !mutated(Mutant::FailedCommitNotInDoubt);
                Next::Retry(Retry::AFTER_DELAY)
            }
            SqlFault::Row | SqlFault::NoPartition | SqlFault::Stop => Next::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InsertMode::{Copy, Staged};
    use super::*;

    const BACKOFF: Next = Next::Retry(Retry::AFTER_DELAY);
    const AT_ONCE: Next = Next::Retry(Retry::AT_ONCE);

    fn failed(fault: SqlFault, phase: Phase, duplicate: bool) -> Outcome {
        Outcome::Failed { fault, phase, duplicate }
    }

    #[test]
    fn each_outcome_has_a_next_step() {
        let restart = Next::Retry(Retry { new_session: false, delay: Delay::Restart });
        let reopened = Next::Retry(Retry { new_session: true, delay: Delay::None });
        for (outcome, next, mode, in_doubt) in [
            (Outcome::Committed, Next::Done, Copy, false),
            (Outcome::Conflict, AT_ONCE, Copy, false),
            (Outcome::Suppressed, AT_ONCE, Staged { chunked: false }, false),
            (Outcome::Refused, Next::AddDeadLetters, Copy, false),
            (Outcome::NotOpened, BACKOFF, Copy, false),
            (Outcome::NoRowPassed, BACKOFF, Copy, false),
            (Outcome::NoAnswer, BACKOFF, Copy, true),
            (failed(SqlFault::Retry, Phase::Statement, false), BACKOFF, Copy, false),
            (failed(SqlFault::Retry, Phase::Rows, false), BACKOFF, Copy, false),
            (failed(SqlFault::Retry, Phase::Commit, false), BACKOFF, Copy, true),
            (failed(SqlFault::Row, Phase::Rows, true), restart, Staged { chunked: false }, false),
            (failed(SqlFault::Row, Phase::Commit, false), restart, Staged { chunked: true }, false),
            (failed(SqlFault::NoPartition, Phase::Rows, false), reopened, Copy, false),
            (Outcome::GivenUp, Next::Stop, Copy, false),
            (failed(SqlFault::Stop, Phase::Commit, false), Next::Stop, Copy, false),
        ] {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.step(outcome), next, "{outcome:?}");
            assert_eq!((attempts.mode(), attempts.in_doubt()), (mode, in_doubt), "{outcome:?}");
        }
    }

    #[test]
    fn doubt_lasts_until_the_batch_is_settled() {
        let mut attempts = Attempts::default();
        attempts.step(Outcome::NoAnswer);
        for outcome in [
            Outcome::NotOpened,
            failed(SqlFault::Retry, Phase::Statement, false),
            failed(SqlFault::Row, Phase::Rows, true),
            Outcome::Suppressed,
            Outcome::Conflict,
        ] {
            attempts.step(outcome);
            assert!(attempts.in_doubt(), "{outcome:?}");
        }
    }

    #[test]
    fn repairs_have_a_limit() {
        for fault in [SqlFault::Row, SqlFault::NoPartition] {
            let mut attempts = Attempts::default();
            for _ in 0..MAX_REPAIRS {
                assert!(matches!(attempts.step(failed(fault, Phase::Rows, false)), Next::Retry(_)), "{fault:?}");
            }
            assert_eq!(attempts.step(failed(fault, Phase::Rows, false)), Next::Stop, "{fault:?}");
            assert_eq!(attempts.step(failed(SqlFault::Retry, Phase::Rows, false)), BACKOFF, "{fault:?}");
        }
    }
}
