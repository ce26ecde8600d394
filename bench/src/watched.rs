//! A process that is watched until its end.

use std::process::{Child, Command};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::usage::{self, Usage};

/// A process that runs beside others.
pub(crate) struct Watched {
    pub(crate) pid: u32,
    usage: JoinHandle<Usage>,
}

impl Watched {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child: Child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let began = Instant::now();
        Self { pid: child.id(), usage: thread::spawn(move || usage::watch(&mut child, began)) }
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn wait(self) -> Usage {
        let usage = self.usage.join().unwrap();
        assert!(usage.status.success(), "it failed: {}", usage.status);
        usage
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Usage {
        let status = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().unwrap();
        assert!(status.success());
        self.wait()
    }
}
