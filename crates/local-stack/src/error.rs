//! Errors of starting, querying and stopping servers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use crate::name::Name;
use crate::process::Holder;

/// Failure to start, query or stop a server or the whole stack.
#[derive(Debug, Error)]
pub enum StackError {
    /// The servers' programs are not fetched, or not completely.
    #[error("cannot find {}: Kafka, PostgreSQL and SeaweedFS are not installed; run scripts/setup", missing.display())]
    NotFetched {
        /// First file that is missing.
        missing: PathBuf,
    },
    /// Another process listens on the server's port.
    #[error(
        "cannot start {server} on port {port}: {holder} uses the port; stop it, or choose another port with \
         --{server}-port"
    )]
    PortTaken {
        /// Server that needs the port.
        server: Name,
        /// Port on 127.0.0.1.
        port: u16,
        /// Process that listens on the port.
        holder: Holder,
    },
    /// The server already runs on a port other than the requested one.
    #[error(
        "cannot start {server} on port {wanted}: it already runs on port {port}; stop it with 'cargo run -p \
         local-stack -- down', or omit --{server}-port"
    )]
    RunsElsewhere {
        /// The running server.
        server: Name,
        /// Port it listens on.
        port: u16,
        /// Requested port.
        wanted: u16,
    },
    /// Creating a certificate failed.
    #[error("cannot create a certificate: {0}")]
    Certificate(openssl::error::ErrorStack),
    /// The server exited before it answered.
    #[error("cannot start {server}: it exited early ({status}); see the end of {}:\n{tail}", log.display())]
    EndedEarly {
        /// The server that exited.
        server: Name,
        /// Its exit status.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// The server runs but does not answer.
    #[error("cannot start {server}: no response within {} s: {last}; see {}", after.as_secs(), log.display())]
    NoAnswer {
        /// The server that does not answer.
        server: Name,
        /// Time waited for an answer.
        after: Duration,
        /// Error of the last attempt.
        last: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A server answers, but rejects the setup for the pipeline.
    #[error("cannot set up {server}: {step}: {cause}")]
    SetUp {
        /// The server being set up.
        server: Name,
        /// The database, bucket or script being set up.
        step: String,
        /// Error message of the server.
        cause: String,
    },
    /// A server is still alive after SIGKILL.
    #[error("cannot stop {server}: process {pid} still runs after SIGKILL")]
    NotStopped {
        /// The server that is still alive.
        server: Name,
        /// Its process ID.
        pid: u32,
    },
    /// PostgreSQL refuses to run as root, and no other account exists.
    #[error("cannot run PostgreSQL as root: no user postgres or nobody in /etc/passwd; add one")]
    NoAccount,
    /// A folder outside the repository belongs to another user.
    #[error(
        "cannot use {}: it belongs to another user; remove it, or set LOCAL_STACK_DIR to a folder that all users can \
         access",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// All ports of the range are in use.
    #[error("no free port between {first} and {last} on 127.0.0.1")]
    NoFreePort {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {cause}; {advice}")]
    Program {
        /// Its name or path.
        program: String,
        /// Cause of the failure.
        cause: io::Error,
        /// Remedy, such as the script that installs the program.
        advice: &'static str,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// Operation that failed, such as `read`.
        action: &'static str,
        /// File or folder of the operation.
        path: PathBuf,
        /// Cause of the failure.
        cause: io::Error,
    },
}

/// Adds the operation and the path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StackError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StackError> {
        self.map_err(|cause| StackError::File { action, path: path.to_owned(), cause })
    }
}
