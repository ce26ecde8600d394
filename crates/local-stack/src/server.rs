//! A server that a test has to itself: it ends with its owner.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{At, StackError};
use crate::process::{Process, Signal};
use crate::service::{Service, is_port_race, launch};
use crate::watch::Watch;

/// How long an orderly end may take before the server is killed.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long a PostgreSQL that is told to end at once may take.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);
/// How often another port is tried.
pub(crate) const PORT_ATTEMPTS: usize = 5;

/// A running server of one's own. Dropping it ends the process, and removes its folder when that was a temporary one;
/// when the owning process is killed, a small watcher process does the same.
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
    /// Held for its Drop.
    watch: Option<Watch>,
}

impl<S: Service> Server<S> {
    /// A server with new data in a temporary folder, on a free port of 127.0.0.1.
    pub fn ephemeral() -> Result<Self, StackError> {
        Self::ephemeral_as(Ok)
    }

    /// The same with another form of the service.
    pub(crate) fn ephemeral_as(form: impl Fn(S) -> Result<S, StackError>) -> Result<Self, StackError> {
        let temporary = temporary_folder()?;
        let mut server = Self::start_as(&temporary.path().join(S::NAME.as_str()), 0, form)?;
        if let Some(running) = &mut server.running {
            running.watch = Some(Watch::over(running.child.id(), S::ABORT.0, Some(temporary.path()))?);
        }
        server.temporary = Some(temporary);
        Ok(server)
    }

    /// A server with its data in `folder` (made when absent, kept at the end), on `port` of 127.0.0.1; 0 is any free one.
    /// Its log is beside the folder: `<name>.log`. Returns when it answers.
    pub fn start(folder: &Path, port: u16) -> Result<Self, StackError> {
        Self::start_as(folder, port, Ok)
    }

    fn start_as(folder: &Path, port: u16, form: impl Fn(S) -> Result<S, StackError>) -> Result<Self, StackError> {
        let folder = std::path::absolute(folder).at("finding", folder)?;
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

    /// The process, while it is meant to run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// The port on 127.0.0.1; the same for as long as this value lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// What it writes to its standard output and error.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.service.log().to_owned()
    }

    /// Ends it in order (Kafka closes its logs, PostgreSQL makes a checkpoint); killed after 20 s. Data stays.
    pub fn stop(&mut self) -> Result<(), StackError> {
        self.end(S::STOP.0, STOP_PATIENCE)
    }

    /// Kills it (SIGKILL), as a power cut would. Data stays.
    pub fn kill(&mut self) -> Result<(), StackError> {
        self.end(Signal::Kill, STOP_PATIENCE)
    }

    /// Starts it again on the same port and data, stopping it first when it runs. Returns when it answers.
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
        // There is no one to tell; the watcher has another try.
        let _ = self.end(S::ABORT.0, ABORT_PATIENCE);
    }
}

/// A temporary folder that PostgreSQL's account can reach.
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
        .at("making a folder in", &place)
}
