//! How a program ends: 0 done, 1 failed, 2 wrong usage or configuration, 3 a check found a difference.

use std::process::ExitCode;

use thiserror::Error;

/// Why a program did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// It could not: a service is away, refuses, or something broke. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// It was asked wrongly: flags, variables or configuration. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It did, and found that something is not as it should be. Exit code 3.
    #[error("{0}")]
    Difference(String),
}

impl Failure {
    /// Wrong usage or configuration, in words.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// The code for the shell.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Difference(_) => 3,
        }
    }
}

/// Says on stderr what went wrong, if anything did, and gives the exit code.
#[must_use]
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
