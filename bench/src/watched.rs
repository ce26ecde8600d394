//! A process that is watched until its end.

use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use local_stack::Watch;

use crate::usage::{self, Usage};

/// A process that runs beside others.
pub(crate) struct Watched {
    pub(crate) pid: u32,
    usage: JoinHandle<Usage>,
    /// It does not outlive us.
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

    /// Ends it without a word, if it still runs.
    pub(crate) fn kill(self) -> Usage {
        // It fails where the process has ended by itself.
        let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        self.usage.join().unwrap()
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
