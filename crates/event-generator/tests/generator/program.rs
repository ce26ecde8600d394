//! The program as a child process.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::servers::Target;

/// Deadline of each step, generous for busy machines.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Returns the state folder of runs without a target.
fn state_dir() -> &'static Path {
    static STATE: OnceLock<PathBuf> = OnceLock::new();
    STATE.get_or_init(|| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep())
}

/// Returns a command with the given flags and no inherited variables.
pub(crate) fn command(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_event-generator"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["AWS_", "EVENT_GENERATOR_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command.args(flags.split_whitespace()).stdin(Stdio::null());
    command.env("EVENT_GENERATOR_STATE_DIR", state_dir()).env("EVENT_GENERATOR_HTTP_ADDR", "off");
    command
}

/// Returns a command that publishes to a target.
pub(crate) fn publish(target: &Target, flags: &str) -> Command {
    let mut command = command(flags);
    command
        .args(["--bootstrap-servers", &target.bootstrap_servers, "--topic", &target.topic, "--lake", &target.lake])
        .env("EVENT_GENERATOR_STATE_DIR", target.state.path())
        .envs(target.s3.variables());
    command
}

/// A program that exited.
#[derive(Debug)]
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Exited {
    /// Returns the log line with this message.
    pub(crate) fn line(&self, message: &str) -> Value {
        let lines = self.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("no {message}: {self:?}"))
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts that SIGKILL ended the program.
    pub(crate) fn expect_killed(self) -> Self {
        assert_eq!(self.signal, Some(9), "{self:?}");
        self
    }

    pub(crate) fn expect_error(self, code: i32, parts: &[&str]) -> Self {
        let done = self.expect_code(code);
        for part in parts {
            assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
        }
        done
    }
}

/// A running program.
pub(crate) struct Running {
    child: Child,
    begun: Instant,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, begun, lines, seen: String::new() }
    }

    /// Waits until the log contains a text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {}", self.seen));
            self.note(&line);
        }
    }

    /// Returns the log line with this message, which must have appeared before.
    pub(crate) fn line(&self, message: &str) -> Value {
        let lines = self.seen.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .into_iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("no {message}: {}", self.seen))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the exit. Kills the program at the deadline and fails the test.
    pub(crate) fn wait(mut self) -> Exited {
        let deadline = Instant::now() + TIMEOUT;
        let mut stdout = self.child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.note(&line);
        }
        assert!(Instant::now() <= deadline, "still running: {}", self.seen);
        let status = self.child.wait().unwrap();
        let stdout = reader.join().unwrap().unwrap();
        let stderr = std::mem::take(&mut self.seen);
        Exited { code: status.code(), signal: status.signal(), stdout, stderr, took: self.begun.elapsed() }
    }

    fn note(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has exited, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(command: Command) -> Exited {
    Running::start(command).wait()
}
