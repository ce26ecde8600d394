//! A dedicated server of a test, which ends with its owner.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{At, StackError};
use crate::process::{Process, Signal};
use crate::service::{Service, is_port_race, launch};
use crate::watch::Watch;

/// Deadline for an orderly shutdown before the server is killed.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Deadline for an immediate shutdown of a dropped server.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of attempts with different ports.
pub(crate) const PORT_ATTEMPTS: usize = 5;

/// A running server. Dropping it ends the process and removes a temporary folder.
///
/// If the owning process is killed, a small watcher process does the same.
#[derive(Debug)]
pub struct Server<S: Service> {
    pub(crate) service: S,
    running: Option<Running>,
    /// Dropped after the process has ended.
    temporary: Option<TempDir>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Held until the process has ended.
    watch: Option<Watch>,
}

impl<S: Service> Server<S> {
    /// Starts a server with new data in a temporary folder, on a free port of 127.0.0.1.
    pub fn ephemeral() -> Result<Self, StackError> {
        Self::ephemeral_as(Ok)
    }

    /// Starts an ephemeral server whose service `form` has configured.
    pub(crate) fn ephemeral_as(form: impl Fn(S) -> Result<S, StackError>) -> Result<Self, StackError> {
        let temporary = temporary_folder()?;
        let mut server = Self::start_as(&temporary.path().join(S::NAME.as_str()), 0, form)?;
        if let Some(running) = &mut server.running {
            running.watch = Some(Watch::over(running.child.id(), S::ABORT.0, Some(temporary.path()))?);
        }
        server.temporary = Some(temporary);
        Ok(server)
    }

    /// Starts a server with its data in `folder`, on `port` of 127.0.0.1, and returns when it answers.
    ///
    /// The folder is created if missing and kept at the end. Port 0 selects a free port. The log is `<name>.log` beside
    /// the folder.
    pub fn start(folder: &Path, port: u16) -> Result<Self, StackError> {
        Self::start_as(folder, port, Ok)
    }

    fn start_as(folder: &Path, port: u16, form: impl Fn(S) -> Result<S, StackError>) -> Result<Self, StackError> {
        let folder = std::path::absolute(folder).at("resolve", folder)?;
        let log = folder.with_file_name(format!("{}.log", S::NAME));
        let mut attempt = 1;
        loop {
            let chosen = if port == 0 { S::free_port()? } else { port };
            let mut server = Self { service: form(S::at(&folder, &log, chosen)?)?, running: None, temporary: None };
            match server.restart() {
                Err(error) if port == 0 && attempt < PORT_ATTEMPTS && is_port_race(&error) => attempt += 1,
                result => return result.map(|()| server),
            }
        }
    }

    /// Returns the process ID, or `None` after the server was stopped or killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Returns the port on 127.0.0.1, which stays the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// Returns the log file with the server's standard output and error.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.service.log().to_owned()
    }

    /// Shuts the server down in order: Kafka closes its logs, PostgreSQL writes a checkpoint.
    ///
    /// A server that takes longer than 20 s is killed. Data is kept.
    pub fn stop(&mut self) -> Result<(), StackError> {
        self.end(S::STOP.0, STOP_TIMEOUT)
    }

    /// Kills the server with SIGKILL, as a power failure would. Data is kept.
    pub fn kill(&mut self) -> Result<(), StackError> {
        self.end(Signal::Kill, STOP_TIMEOUT)
    }

    /// Starts the server again on the same port and data and returns when it answers. Stops it first if it runs.
    pub fn restart(&mut self) -> Result<(), StackError> {
        self.stop()?;
        let watch = RefCell::new(None);
        let temporary = self.temporary.as_ref().map(TempDir::path);
        let child = launch(&self.service, |child| {
            watch.replace(Some(Watch::over(child.id(), S::ABORT.0, temporary)?));
            Ok(())
        })?;
        self.running = Some(Running { child, watch: watch.into_inner() });
        Ok(())
    }

    fn end(&mut self, signal: Signal, timeout: Duration) -> Result<(), StackError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let pid = running.child.id();
        let gone = Process::with(pid).is_none_or(|process| process.end(signal, timeout));
        if !gone {
            self.running = Some(running);
            return Err(StackError::NotStopped { server: S::NAME, pid });
        }
        let _ = running.child.wait();
        drop(running.watch);
        S::tidy(&self.service.ports());
        Ok(())
    }
}

impl<S: Service> Drop for Server<S> {
    fn drop(&mut self) {
        // Drop cannot report an error; the watcher tries again.
        let _ = self.end(S::ABORT.0, ABORT_TIMEOUT);
    }
}

/// Creates a temporary folder that PostgreSQL's account can reach.
pub(crate) fn temporary_folder() -> Result<TempDir, StackError> {
    use std::os::unix::fs::PermissionsExt;
    let account = crate::account::Account::for_postgres()?;
    let usual = std::env::temp_dir();
    let place = match &account {
        Some(account) if !account.reaches(&usual) => PathBuf::from("/var/tmp"),
        _ => usual,
    };
    let open = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new()
        .prefix("local-stack-")
        .permissions(open)
        .tempdir_in(&place)
        .at("create a folder in", &place)
}
