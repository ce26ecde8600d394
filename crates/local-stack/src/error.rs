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
    #[error("{} is not there: Kafka, PostgreSQL and SeaweedFS have not been fetched yet. Run scripts/setup", missing.display())]
    NotFetched {
        /// First file that is missing.
        missing: PathBuf,
    },
    /// Another process listens on the server's port.
    #[error(
        "port {port}, where {server} is to listen, is taken by {holder}. Stop that, or choose another port (--{server}-port)"
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
        "{server} already runs on port {port}, not on {wanted}. Run `local-stack down` first, or leave --{server}-port out"
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
    #[error("a certificate could not be made: {0}")]
    Certificate(openssl::error::ErrorStack),
    /// The server exited before it answered.
    #[error("{server} ended at its start ({status}). The end of {}:\n{tail}", log.display())]
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
    #[error("{server} has not answered for {} s ({last}). See {}", after.as_secs(), log.display())]
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
    #[error("{server} could not be made ready, {step}: {cause}")]
    SetUp {
        /// The server being set up.
        server: Name,
        /// The database, bucket or script being set up.
        step: String,
        /// Error message of the server.
        cause: String,
    },
    /// A server is still alive after SIGKILL.
    #[error("{server} (process {pid}) is still there after SIGKILL")]
    NotStopped {
        /// The server that is still alive.
        server: Name,
        /// Its process ID.
        pid: u32,
    },
    /// PostgreSQL refuses to run as root, and no other account exists.
    #[error("PostgreSQL does not run as root, and /etc/passwd has neither a user postgres nor nobody to run it as")]
    NoAccount,
    /// A folder outside the repository belongs to another user.
    #[error("{} belongs to another user; remove it or set LOCAL_STACK_DIR to a folder that all users can reach", .0.display())]
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
    #[error("{program} could not be started: {cause}. {advice}")]
    Program {
        /// Its name or path.
        program: String,
        /// Cause of the failure.
        cause: io::Error,
        /// Remedy, such as the script that installs the program.
        advice: &'static str,
    },
    /// Reading or writing a file failed.
    #[error("{action} {}: {cause}", path.display())]
    File {
        /// Operation that failed, such as `reading`.
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
