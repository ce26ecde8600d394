//! Failures with their exit codes, and the end of a process.

use signal_hook::low_level;
use thiserror::Error;

/// Failure of a program.
#[derive(Debug, Error)]
pub enum Failure {
    /// The program failed: a service is unavailable or refuses a request, or something broke. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// The flags, variables or configuration are invalid. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The program completed and found a difference. Exit code 3.
    #[error("{0}")]
    Difference(String),
}

impl Failure {
    /// Returns the failure for wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Returns the exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Difference(_) => 3,
        }
    }
}

/// Ends the process immediately. Skips exit handlers: OpenSSL's would free memory that Kafka threads still use.
pub fn now(code: u8) -> ! {
    low_level::exit(code.into())
}
