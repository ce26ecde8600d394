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

use crate::servers::Place;

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where runs are remembered that have no place of their own.
fn state() -> &'static Path {
    static STATE: OnceLock<PathBuf> = OnceLock::new();
    STATE.get_or_init(|| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep())
}

/// A command with no settings but those given.
pub(crate) fn command(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_event-generator"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["AWS_", "EVENT_GENERATOR_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command.args(flags.split_whitespace()).stdin(Stdio::null());
    command.env("EVENT_GENERATOR_STATE_DIR", state()).env("EVENT_GENERATOR_HTTP_ADDR", "off");
    command
}

/// A command that publishes to a place.
pub(crate) fn publish(place: &Place, flags: &str) -> Command {
    let mut command = command(flags);
    command
        .args(["--bootstrap-servers", &place.bootstrap_servers, "--topic", &place.topic, "--lake", &place.lake])
        .env("EVENT_GENERATOR_STATE_DIR", place.state.path())
        .envs(place.s3.variables());
    command
}

/// A program that ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Done {
    /// The line of the log with this message.
    pub(crate) fn line(&self, message: &str) -> Value {
        let lines = self.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("no {message}: {self:?}"))
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It must have been killed.
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

/// A program that runs.
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

    /// Waits until the log has a line with this text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {}", self.seen));
            self.note(&line);
        }
    }

    /// The line of the log with this message, which it has said already.
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

    /// Waits until it ends; a program that doesn't is killed, and the test fails.
    pub(crate) fn wait(mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
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
        Done { code: status.code(), signal: status.signal(), stdout, stderr, took: self.begun.elapsed() }
    }

    fn note(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already over, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(command: Command) -> Done {
    Running::start(command).wait()
}
