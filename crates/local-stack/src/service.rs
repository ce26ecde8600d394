//! Preparation, start and health check of the three servers, independent of the owner of the process.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{At, StackError};
use crate::name::Name;
use crate::ports;
use crate::process::{Holder, PAUSE, Signal};

/// Deadline for a start. Generous, because a JVM starts slowly while all cores compile.
const START_LIMIT: Duration = Duration::from_mins(1);

/// One of the three servers, with its folder and ports.
pub trait Service: Clone + Send + Sync + Sized + 'static {
    /// Name of the server.
    const NAME: Name;
    /// Signal for an orderly shutdown.
    #[doc(hidden)]
    const STOP: StopSignal;
    /// Signal that ends the server and its helper processes at once.
    #[doc(hidden)]
    const ABORT: StopSignal;

    /// Creates the service with its data in `folder`, clients on `port` and free ports for its internal listeners.
    #[doc(hidden)]
    fn at(folder: &Path, log: &Path, port: u16) -> Result<Self, StackError>;
    /// Returns a port with which [`Service::at`] finds all other ports free.
    #[doc(hidden)]
    fn free_port() -> Result<u16, StackError> {
        ports::free()
    }
    /// Returns the port for clients.
    #[doc(hidden)]
    fn port(&self) -> u16;
    /// Returns the log file with the server's standard output and error.
    #[doc(hidden)]
    fn log(&self) -> &Path;
    /// Creates the data folder if it is missing.
    #[doc(hidden)]
    fn prepare(&self) -> Result<(), StackError>;
    /// Returns the command that runs the server.
    #[doc(hidden)]
    fn command(&self) -> Result<Command, StackError>;
    /// Sends a request that only a working server answers. The error is text for the user.
    #[doc(hidden)]
    fn ask(&self) -> Result<(), String>;
    /// Creates the objects that the pipeline expects, such as databases and buckets.
    #[doc(hidden)]
    fn furnish(&self) -> Result<(), StackError> {
        Ok(())
    }
    /// Returns all ports that the server listens on.
    #[doc(hidden)]
    fn ports(&self) -> Vec<u16>;
    /// Removes files that a server on these ports leaves outside its folder.
    #[doc(hidden)]
    fn tidy(_ports: &[u16]) {}
}

/// A signal for the constants of [`Service`].
#[derive(Debug, Clone, Copy)]
pub struct StopSignal(pub(crate) Signal);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Starts a service and returns when it answers and is furnished. `spawned` is called with each process started.
pub(crate) fn launch<S: Service>(
    service: &S,
    spawned: impl Fn(&Child) -> Result<(), StackError>,
) -> Result<Child, StackError> {
    service.prepare()?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let mut child = spawn(service)?;
        let ready =
            spawned(&child).and_then(|()| await_answer(service, &mut child, deadline)).and_then(|()| service.furnish());
        let Err(error) = ready else { return Ok(child) };
        let _ = child.kill();
        let _ = child.wait();
        S::tidy(&service.ports());
        if !(is_transient(&error) && Instant::now() < deadline) {
            return Err(error);
        }
        std::thread::sleep(PAUSE * 10);
    }
}

/// Returns true if another start may succeed.
///
/// After the postmaster is killed, backends live on briefly, and a new postmaster refuses to start until they exit.
/// After `SeaweedFS` is killed, its components seldom fail to find each other until it is started again.
fn is_transient(error: &StackError) -> bool {
    match error {
        StackError::EndedEarly { server: Name::Postgres, tail, .. } => tail.contains("shared memory block"),
        StackError::SetUp { server: Name::S3, .. } => true,
        _ => false,
    }
}

/// Returns true if the server failed because another process bound one of its ports first.
pub(crate) fn is_port_race(error: &StackError) -> bool {
    match error {
        StackError::PortTaken { .. } => true,
        StackError::EndedEarly { tail, .. } => {
            let tail = tail.to_lowercase();
            tail.contains("already in use") || tail.contains("not available on")
        }
        _ => false,
    }
}

fn spawn<S: Service>(service: &S) -> Result<Child, StackError> {
    if !ports::is_free(service.port()) {
        let holder = ports::holder(service.port()).unwrap_or(Holder { pid: None, command: None });
        return Err(StackError::PortTaken { server: S::NAME, port: service.port(), holder });
    }
    let log = open_log(service.log())?;
    let errors = log.try_clone().at("open", service.log())?;
    let mut command = service.command()?;
    // A separate process group, so that Ctrl-C in the terminal does not reach the servers.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(|cause| StackError::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        cause,
        advice: "run scripts/setup",
    })
}

fn open_log(path: &Path) -> Result<File, StackError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("create", folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path).at("open", path)
}

fn await_answer<S: Service>(service: &S, child: &mut Child, deadline: Instant) -> Result<(), StackError> {
    let mut last = "not listening yet".to_owned();
    loop {
        if let Some(status) = child.try_wait().at("wait for", service.log())? {
            let tail = tail(service.log(), 20).unwrap_or_default();
            return Err(StackError::EndedEarly { server: S::NAME, status, log: service.log().to_owned(), tail });
        }
        // An answer alone could come from another server that bound the port first.
        if ports::listens(child.id(), service.port()) {
            match ask(service) {
                Ok(()) => return Ok(()),
                Err(cause) => last = cause,
            }
        }
        if Instant::now() >= deadline {
            return Err(StackError::NoAnswer {
                server: S::NAME,
                after: START_LIMIT,
                last,
                log: service.log().to_owned(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Calls [`Service::ask`] on a separate thread, because the caller may be inside an asynchronous runtime.
pub(crate) fn ask<S: Service>(service: &S) -> Result<(), String> {
    apart(|| service.ask())
}

/// Runs a closure on a thread outside any asynchronous runtime.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Runs a future to completion on a new runtime.
pub(crate) fn wait_for<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(future)
}

/// Returns the last lines of a text file.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}
