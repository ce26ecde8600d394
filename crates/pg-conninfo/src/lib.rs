//! libpq's connection settings for `tokio-postgres`.
//!
//! ```text
//! connection string ─┐
//! service file ──────┼─> Settings ─> Conninfo ─> one HostConfig per host ─> connect() ─> Client
//! PG* variables ─────┘                  │                 │
//!                                  TLS connector    password file
//! ```
//!
//! A setting comes from the connection string, else from the service, else from its environment variable, else from
//! libpq's default. [`KEYWORDS`] and [`VARIABLES`] list every setting of libpq. Each one is supported with libpq's
//! meaning, accepted because it has no effect here, or refused by name. No setting is ignored.

mod connect;
mod conninfo;
mod error;
mod exposure;
mod host;
mod keyword;
mod parse;
mod password_file;
mod service;
mod session_attributes;
mod settings;
mod tls;

pub use connect::connect;
pub use conninfo::Conninfo;
pub use error::ConninfoError;
pub use keyword::{Handling, KEYWORDS, Keyword, VARIABLES, Variable};
pub use tls::{SslMode, handshake_was_cut, openssl_reason, tls_failure};
