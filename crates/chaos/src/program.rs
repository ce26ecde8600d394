//! One of our programs as a child, with its log and the most memory that it took.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::Context;
use local_stack::Watch;

/// Killed when dropped, and also when we are killed.
pub(crate) struct Program {
    child: Child,
    watch: Option<Watch>,
    log: PathBuf,
    pub(crate) begun: Instant,
    /// In MiB, as last seen.
    pub(crate) peak: u64,
}

impl Program {
    /// All that it says goes to a new file.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        // A group of its own: Ctrl-C on the terminal is for us alone.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut program = Self { child, watch: None, log, begun: Instant::now(), peak: 0 };
        program.watch = Some(Watch::killing(program.pid())?);
        Ok(program)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has. Looks at its memory otherwise.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if let Some(peak) = peak(self.child.id()) {
            self.peak = self.peak.max(peak);
        }
        Ok(self.child.try_wait()?)
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        fs::read(&self.log).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    /// The last line that is not empty, for a finding.
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

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    // The standard library only knows SIGKILL for children; sh has `kill` built in.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "process {pid} could not be sent {name}");
    Ok(())
}

/// The state of a process as the kernel names it: `T` when it is stopped.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// The most memory that a process has had, in MiB.
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
