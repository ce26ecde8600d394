//! Failures with their exit codes, and the end of a process.

use signal_hook::low_level;
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

/// Ends the process at once, without exit handlers: OpenSSL's frees what threads of the Kafka client still use.
pub fn now(code: u8) -> ! {
    low_level::exit(code.into())
}
