//! A program as a child process, with its log and peak memory.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::Context;
use local_stack::Watch;

/// A running program. It is killed when dropped, and also when the current process is killed.
pub(crate) struct Program {
    child: Child,
    watch: Option<Watch>,
    log: PathBuf,
    pub(crate) begun: Instant,
    /// Peak resident memory in MiB, as last polled.
    pub(crate) peak: u64,
}

impl Program {
    /// Starts a program with its output redirected to a new file.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        // A separate process group, so that Ctrl-C in the terminal reaches only this process.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut program = Self { child, watch: None, log, begun: Instant::now(), peak: 0 };
        program.watch = Some(Watch::killing(program.pid())?);
        Ok(program)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status, or `None` if the program still runs. Also updates the peak memory.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if let Some(peak) = peak(self.child.id()) {
            self.peak = self.peak.max(peak);
        }
        Ok(self.child.try_wait()?)
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        fs::read(&self.log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    /// Returns the last non-empty line of the log, for a finding.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)").chars().take(600).collect()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, given by its name.
pub(crate) fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    // The standard library sends only SIGKILL, and only to children; `kill` is a builtin of `sh`.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "cannot send {name} to process {pid}");
    Ok(())
}

/// Returns the kernel's state code of a process, such as `T` for a stopped one.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// Returns the peak resident memory of a process in MiB.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_seen_as_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut program = Program::start(command, folder.path().join("log")).unwrap();
        assert_ne!(state(program.pid()), Some('T'));
        signal(program.pid(), "STOP").unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        while state(program.pid()) != Some('T') {
            assert!(Instant::now() < deadline);
        }
        assert!(program.ended().unwrap().is_none() && peak(program.pid()).is_some());
    }
}
