//! What can go wrong when servers are started and stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use crate::name::Name;
use crate::process::Holder;

/// Why a server, or the whole stack, could not be started, asked or stopped.
#[derive(Debug, Error)]
pub enum StackError {
    /// The servers' programs have not been fetched, or not completely.
    #[error("{} is not there: Kafka, PostgreSQL and SeaweedFS have not been fetched yet. Run scripts/setup", missing.display())]
    NotFetched {
        /// The first file that was looked for in vain.
        missing: PathBuf,
    },
    /// Another process listens on the port that a server was to have.
    #[error(
        "port {port}, where {server} is to listen, is taken by {holder}. Stop that, or choose another port (--{server}-port)"
    )]
    PortTaken {
        /// The server that was to have it.
        server: Name,
        /// The port on 127.0.0.1.
        port: u16,
        /// Who has it.
        holder: Holder,
    },
    /// The server already runs, elsewhere than asked for.
    #[error(
        "{server} already runs on port {port}, not on {wanted}. Run `local-stack down` first, or leave --{server}-port out"
    )]
    RunsElsewhere {
        /// Which one.
        server: Name,
        /// Where it listens.
        port: u16,
        /// What was asked for.
        wanted: u16,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(openssl::error::ErrorStack),
    /// The server ended before it answered.
    #[error("{server} ended at its start ({status}). The end of {}:\n{tail}", log.display())]
    EndedEarly {
        /// Which one.
        server: Name,
        /// How.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server runs and does not answer.
    #[error("{server} has not answered for {} s ({last}). See {}", after.as_secs(), log.display())]
    NoAnswer {
        /// Which one.
        server: Name,
        /// How long it was waited for.
        after: Duration,
        /// What the last attempt said.
        last: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A server answers, but refuses what makes it ready for the pipeline.
    #[error("{server} could not be made ready, {step}: {cause}")]
    SetUp {
        /// Which one.
        server: Name,
        /// The database, bucket or script.
        step: String,
        /// The server's words.
        cause: String,
    },
    /// A server did not end, not even killed.
    #[error("{server} (process {pid}) is still there after SIGKILL")]
    NotStopped {
        /// Which one.
        server: Name,
        /// Its process.
        pid: u32,
    },
    /// PostgreSQL refuses to run as root, and there is no other account.
    #[error("PostgreSQL does not run as root, and /etc/passwd has neither a user postgres nor nobody to run it as")]
    NoAccount,
    /// A folder outside the repository belongs to somebody else.
    #[error("{} belongs to another user; remove it or set LOCAL_STACK_DIR to a folder that all users can reach", .0.display())]
    NotOurs(PathBuf),
    /// No free port was found.
    #[error("no free port between {first} and {last} on 127.0.0.1")]
    NoFreePort {
        /// Where the search begins.
        first: u16,
        /// Where it ends.
        last: u16,
    },
    /// A program could not be started.
    #[error("{program} could not be started: {cause}. {advice}")]
    Program {
        /// Its name or path.
        program: String,
        /// Why.
        cause: io::Error,
        /// How to get it.
        advice: &'static str,
    },
    /// Reading or writing a file failed.
    #[error("{action} {}: {cause}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

/// Adds what was being done with which file to an I/O error.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StackError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StackError> {
        self.map_err(|cause| StackError::File { action, path: path.to_owned(), cause })
    }
}
