//! A process whose resource usage is recorded until it exits.

use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use local_stack::Watch;

use crate::usage::{self, Usage};

/// A process that runs in the background.
pub(crate) struct Watched {
    pub(crate) pid: u32,
    usage: JoinHandle<Usage>,
    /// Kills the process if this program exits.
    _watch: Watch,
}

impl Watched {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child: Child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (began, pid) = (Instant::now(), child.id());
        let watch = Watch::killing(pid).expect("sh");
        Self { pid, usage: thread::spawn(move || usage::watch(&mut child, began)), _watch: watch }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.usage.is_finished()
    }

    /// Sends SIGKILL if the process still runs.
    pub(crate) fn kill(self) -> Usage {
        // `kill` fails if the process has already exited.
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        self.usage.join().unwrap()
    }

    /// Waits for the process to exit. Fails if it does not succeed.
    pub(crate) fn wait(self) -> Usage {
        let usage = self.usage.join().unwrap();
        assert!(usage.status.success(), "the process failed: {}", usage.status);
        usage
    }

    /// Sends SIGTERM and waits for a successful exit.
    pub(crate) fn stop(self) -> Usage {
        let status = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().unwrap();
        assert!(status.success());
        self.wait()
    }
}
