//! The pipeline's programs as our children.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use local_stack::{Stack, Watch, program};
use serde_json::Value;

use super::show::EFFECT;
use super::{GROUP, RUN, TOPIC, log_file};

/// How many of a log's last lines a failure shows.
const TAIL_LINES: usize = 30;
/// Where the programs are.
pub(super) struct Programs {
    folder: PathBuf,
}

/// A running program. Dropping it kills it; a small shell does the same when we are killed.
pub(super) struct Running {
    name: &'static str,
    log: PathBuf,
    child: Child,
    watch: Option<Watch>,
}

impl Programs {
    /// The programs in the folder of our own executable.
    pub(super) fn beside_us() -> anyhow::Result<Self> {
        let us = std::env::current_exe().context("finding our own executable")?;
        let folder = us.parent().context("our own executable has no folder")?.to_owned();
        for name in ["event-generator", "kafka-consumer", "verifier"] {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{} is not there. Run `make build` first", path.display());
            }
        }
        Ok(Self { folder })
    }

    pub(super) fn generator(&self, stack: &Stack, logs: &Path, events: u64) -> anyhow::Result<Running> {
        let mut command = self.command("event-generator", stack);
        command.args(["--rate", "max", "--run-id", RUN, "--topic", TOPIC, "--count", &events.to_string()]);
        command.args(["--fault", "invalid=0.5%", "--fault", "corrupt=0.1%", "--fault", "duplicate=1%"]);
        command.args(["--effect", EFFECT]);
        command.args(["--lake", &stack.lake_url(), "--bootstrap-servers", &stack.bootstrap_servers()]);
        command.args(["--log-format", "json"]);
        Running::start("event-generator", command, logs, Stdio::null())
    }

    pub(super) fn consumer(&self, stack: &Stack, logs: &Path) -> anyhow::Result<Running> {
        let mut command = self.command("kafka-consumer", stack);
        command.args(["--group-id", GROUP, "--topic", TOPIC, "--bootstrap-servers", &stack.bootstrap_servers()]);
        command.args(["--log-format", "json", "--http-addr", "off"]);
        Running::start("kafka-consumer", command, logs, Stdio::null())
    }

    /// Its table goes to our standard output.
    pub(super) fn verifier(&self, stack: &Stack, logs: &Path) -> anyhow::Result<Running> {
        let mut command = self.command("verifier", stack);
        command.args(["--run", RUN, "--group-id", GROUP, "--bootstrap-servers", &stack.bootstrap_servers()]);
        command.args(["--lake", &stack.lake_url(), "--s3-endpoint", &stack.s3().endpoint]);
        Running::start("verifier", command, logs, Stdio::inherit())
    }

    /// Brings the features up to date.
    pub(super) fn refine(&self, stack: &Stack, logs: &Path) -> anyhow::Result<Running> {
        let mut command = self.command("kafka-consumer", stack);
        command.arg("refine");
        Running::start("kafka-consumer refine", command, logs, Stdio::null())
    }

    /// Its table goes to our standard output.
    pub(super) fn check(&self, stack: &Stack, logs: &Path) -> anyhow::Result<Running> {
        let mut command = self.command("kafka-consumer", stack);
        command.arg("check");
        Running::start("kafka-consumer check", command, logs, Stdio::inherit())
    }

    /// Its table goes to our standard output.
    pub(super) fn reconcile(&self, stack: &Stack, logs: &Path) -> anyhow::Result<Running> {
        let mut command = self.command("kafka-consumer", stack);
        command.args(["reconcile", "--run", RUN, "--group-id", GROUP, "--topic", TOPIC]);
        command.args(["--lake", &stack.lake_url(), "--bootstrap-servers", &stack.bootstrap_servers()]);
        Running::start("kafka-consumer reconcile", command, logs, Stdio::inherit())
    }

    fn command(&self, name: &str, stack: &Stack) -> Command {
        let mut command = program::command(&self.folder.join(name));
        command.env("DATABASE_URL", stack.database_url()).envs(stack.s3().variables());
        command
    }
}

impl Running {
    fn start(name: &'static str, mut command: Command, logs: &Path, stdout: Stdio) -> anyhow::Result<Self> {
        let (log, file) = log_file(logs, name)?;
        // A group of its own: Ctrl-C on the terminal is for us, who then end all in order.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut running = Self { name, log, child, watch: None };
        running.watch = Some(Watch::killing(running.child.id())?);
        Ok(running)
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub(super) fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        // The standard library only knows SIGKILL; sh has `kill` built in.
        let script = format!("kill -TERM {}", self.child.id());
        Command::new("sh").args(["-c", &script]).status().context("starting sh")?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {} s of SIGTERM.\n{}", self.name, patience.as_secs(), self.tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What to say about a program that has failed, with the end of its log.
    pub(super) fn failure(&self, status: ExitStatus) -> String {
        format!("{} ended with {status}.\n{}", self.name, self.tail())
    }

    /// The last line of the log with this message.
    pub(super) fn last_log_line(&self, message: &str) -> anyhow::Result<Value> {
        let log = fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .find(|line| line["message"] == message)
            .with_context(|| format!("{} has no line {message:?}", self.log.display()))
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return format!("{} has logged nothing.", self.name);
        }
        format!("The end of the log of {}:\n{}", self.name, lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
