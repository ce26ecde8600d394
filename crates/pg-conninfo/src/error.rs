//! Errors of connection settings.

use thiserror::Error;

/// Connection settings that cannot be used. Never contains a password.
#[derive(Debug, Error)]
pub enum ConninfoError {
    /// The connection string has neither of libpq's forms.
    #[error(
        "invalid connection string: {0}; write postgres://user@host:port/database?keyword=value or keyword=value pairs"
    )]
    Syntax(String),
    /// libpq has no such keyword.
    #[error("unknown connection option {0}; see docs/connection-settings.md for the supported ones")]
    UnknownKeyword(String),
    /// libpq has the option, this program has not.
    #[error("connection option {name} is not supported: {reason}; remove it")]
    Unsupported {
        /// Keyword, or the variable that the value came from.
        name: String,
        /// Reason, and the alternative if there is one.
        reason: String,
    },
    /// The option cannot have this value.
    #[error("invalid connection option {name}={value}: expected {expected}")]
    Value {
        /// Keyword, or the variable that the value came from.
        name: String,
        /// Value that was given.
        value: String,
        /// Values that are possible.
        expected: String,
    },
    /// Two options contradict each other.
    #[error("connection options do not fit together: {0}")]
    Conflict(String),
    /// The service is not defined, or its definition cannot be used.
    #[error("cannot use service {service}: {reason}")]
    Service {
        /// Name of the service.
        service: String,
        /// Reason, with the file.
        reason: String,
    },
    /// A certificate or key cannot be used. Begins with the option that names it.
    #[error("{0}")]
    Tls(String),
    /// Neither the settings nor the operating system name a user.
    #[error("cannot determine the user: the operating system has no name for this process; set user or PGUSER")]
    NoUser,
}
