//! Errors of connection settings.

use thiserror::Error;

/// Error in the connection settings. Never contains a password.
#[derive(Debug, Error)]
pub enum ConninfoError {
    /// The connection string has neither of libpq's forms.
    #[error(
        "invalid connection string: {0}; write postgres://user@host:port/database?keyword=value or keyword=value pairs"
    )]
    Syntax(String),
    /// The keyword does not exist in libpq.
    #[error("unknown connection option {0}; see docs/connection-settings.md for the supported ones")]
    UnknownKeyword(String),
    /// libpq supports the option, this crate does not.
    #[error("unsupported connection option {name}: {reason}; remove it")]
    Unsupported {
        /// Keyword, or the variable that provided the value.
        name: String,
        /// Reason, and the alternative if there is one.
        reason: String,
    },
    /// The value is invalid for the option.
    #[error("invalid connection option {name}={value}: expected {expected}")]
    Value {
        /// Keyword, or the variable that provided the value.
        name: String,
        /// The invalid value.
        value: String,
        /// Permitted values.
        expected: String,
    },
    /// Two options contradict each other.
    #[error("conflicting connection options: {0}")]
    Conflict(String),
    /// The service is not defined, or its definition cannot be used.
    #[error("cannot use service {service}: {reason}")]
    Service {
        /// Name of the service.
        service: String,
        /// Reason, including the file.
        reason: String,
    },
    /// A certificate or key cannot be used. The message starts with the option that names it.
    #[error("{0}")]
    Tls(String),
    /// Neither the settings nor the operating system name a user.
    #[error("cannot determine the user: the operating system reports no user name; set user or PGUSER")]
    NoUser,
}
