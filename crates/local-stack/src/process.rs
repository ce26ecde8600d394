//! Identifies, signals and ends processes that need not be children of this one.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Interval between two polls.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Process that listens on a port, as far as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process ID; `None` if it belongs to another user and /proc hides it.
    pub pid: Option<u32>,
    /// Its command line.
    pub command: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => write!(formatter, "process {pid} ({command})"),
            (Some(pid), None) => write!(formatter, "process {pid}"),
            (None, _) => formatter.write_str("a process of another user"),
        }
    }
}

/// A process, identified by its number and start time because numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    start_ticks: u64,
}

/// A signal, named as for `kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Term,
    Int,
    Quit,
    Kill,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
        }
    }
}

impl Process {
    /// Returns the process that currently has this number, unless it is a zombie.
    pub(crate) fn with(pid: u32) -> Option<Self> {
        let (state, start_ticks) = stat(pid)?;
        (state != 'Z').then_some(Self { pid, start_ticks })
    }

    /// Returns true if the process still runs. A zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::with(self.pid) == Some(self)
    }

    /// Sends a signal if the process is still alive.
    pub(crate) fn send(self, signal: Signal) {
        if self.is_alive() {
            // The standard library sends only SIGKILL, and only to children; `kill` is a builtin of `sh`.
            let script = format!("kill -{} {}", signal.name(), self.pid);
            let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
        }
    }

    /// Sends `first`, then SIGKILL if the process is still alive after `timeout`. Returns true if the process is gone.
    pub(crate) fn end(self, first: Signal, timeout: Duration) -> bool {
        self.send(first);
        if self.is_gone_within(timeout) {
            return true;
        }
        self.send(Signal::Kill);
        self.is_gone_within(Duration::from_secs(5))
    }

    pub(crate) fn is_gone_within(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

/// Returns the command line of a process with its words joined by spaces, truncated after 100 characters.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&raw).replace('\0', " ");
    let words = text.trim();
    match words.char_indices().nth(100) {
        Some((end, _)) => Some(format!("{} …", &words[..end])),
        None => (!words.is_empty()).then(|| words.to_owned()),
    }
}

/// Returns the state and start time of a process. The command name, in parentheses, may contain spaces and parentheses.
fn stat(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_process_is_itself_until_it_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::with(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(process.end(Signal::Term, Duration::from_secs(10)), "a zombie counts as gone");
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn the_same_number_with_another_start_is_another_process() {
        let us = Process::with(std::process::id()).unwrap();
        let earlier = Process { start_ticks: us.start_ticks - 1, ..us };
        assert!(us.is_alive());
        assert!(!earlier.is_alive());
        earlier.send(Signal::Kill);
    }
}
