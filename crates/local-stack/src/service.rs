//! What the three servers have in common: how one is prepared, started and asked, without a word on who keeps the process.

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

/// Generous: a machine that compiles on all cores starts a JVM slowly.
const START_LIMIT: Duration = Duration::from_mins(1);

/// One of the three servers, with its folder and ports.
pub trait Service: Clone + Send + Sync + Sized + 'static {
    /// Which one.
    const NAME: Name;
    /// Asks for an orderly end.
    #[doc(hidden)]
    const STOP: StopSignal;
    /// Ends at once and takes helper processes along.
    #[doc(hidden)]
    const ABORT: StopSignal;

    /// The service with its data in `folder`, its port for clients on `port` and free ones for the rest.
    #[doc(hidden)]
    fn at(folder: &Path, log: &Path, port: u16) -> Result<Self, StackError>;
    /// A port on which [`Service::at`] finds all it needs free.
    #[doc(hidden)]
    fn free_port() -> Result<u16, StackError> {
        ports::free()
    }
    /// The port for clients.
    #[doc(hidden)]
    fn port(&self) -> u16;
    /// What it writes to its standard output and error.
    #[doc(hidden)]
    fn log(&self) -> &Path;
    /// Makes the data folder, unless it is there.
    #[doc(hidden)]
    fn prepare(&self) -> Result<(), StackError>;
    /// What to run.
    #[doc(hidden)]
    fn command(&self) -> Result<Command, StackError>;
    /// Asks the question that only a working server answers; the error is for people.
    #[doc(hidden)]
    fn ask(&self) -> Result<(), String>;
    /// Makes what the pipeline expects to be there.
    #[doc(hidden)]
    fn furnish(&self) -> Result<(), StackError> {
        Ok(())
    }
    /// All ports that it listens on.
    #[doc(hidden)]
    fn ports(&self) -> Vec<u16>;
    /// Takes away what a server on these ports leaves outside its folder.
    #[doc(hidden)]
    fn tidy(_ports: &[u16]) {}
}

/// A signal, for [`Service`]'s constants.
#[derive(Debug, Clone, Copy)]
pub struct StopSignal(pub(crate) Signal);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Starts a service and returns when it answers and is furnished. `spawned` hears of each process that is started.
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
        if !(is_aftermath(&error) && Instant::now() < deadline) {
            return Err(error);
        }
        std::thread::sleep(PAUSE * 10);
    }
}

/// PostgreSQL's last processes outlive a killed postmaster for a moment, and a new one refuses to start meanwhile.
fn is_aftermath(error: &StackError) -> bool {
    matches!(error, StackError::EndedEarly { server: Name::Postgres, tail, .. } if tail.contains("shared memory block"))
}

/// Whether the server ended because somebody else was quicker to take one of its ports.
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
    let errors = log.try_clone().at("opening", service.log())?;
    let mut command = service.command()?;
    // A process group of its own: Ctrl-C in the terminal is for us, not for the servers.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(|cause| StackError::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        cause,
        advice: "Run scripts/setup",
    })
}

fn open_log(path: &Path) -> Result<File, StackError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("making", folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path).at("opening", path)
}

fn await_answer<S: Service>(service: &S, child: &mut Child, deadline: Instant) -> Result<(), StackError> {
    let mut last = "it does not listen yet".to_owned();
    loop {
        if let Some(status) = child.try_wait().at("waiting for", service.log())? {
            let tail = tail(service.log(), 20).unwrap_or_default();
            return Err(StackError::EndedEarly { server: S::NAME, status, log: service.log().to_owned(), tail });
        }
        // An answer alone could be another server's that took the port first.
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

/// [`Service::ask`] from a thread of its own, because callers may be inside an asynchronous runtime.
pub(crate) fn ask<S: Service>(service: &S) -> Result<(), String> {
    apart(|| service.ask())
}

/// Runs something on a thread that belongs to no asynchronous runtime.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Waits for a future on a runtime made for it.
pub(crate) fn wait_for<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(future)
}

/// The last lines of a text file.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<String> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}
