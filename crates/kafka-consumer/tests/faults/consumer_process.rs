//! A consumer process and its log.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use local_stack::{Proxy, Stack};
use tempfile::NamedTempFile;

use crate::support::{self, WRITER, number, query};

/// Default deadline for a condition.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Member {
    child: Child,
    log: NamedTempFile,
}

/// Addresses of a consumer's servers. The PostgreSQL user has a writer's privileges only.
pub(crate) struct Places {
    pub(crate) kafka: String,
    pub(crate) database: String,
}

impl Places {
    pub(crate) fn of(stack: &Stack) -> Self {
        support::migrate(stack);
        Self { kafka: stack.bootstrap_servers(), database: support::url_of(stack, WRITER) }
    }

    pub(crate) fn with_kafka_behind(self, proxy: &Proxy) -> Self {
        Self { kafka: format!("127.0.0.1:{}", proxy.port()), ..self }
    }

    pub(crate) fn with_postgres_behind(self, stack: &Stack, proxy: &Proxy) -> Self {
        let [from, to] = [stack.postgres.port(), proxy.port()].map(|port| format!("127.0.0.1:{port}"));
        Self { database: self.database.replace(&from, &to), ..self }
    }

    /// Returns the `run` command of a consumer of these servers. The caller may append arguments.
    pub(crate) fn consumer(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-consumer"));
        command.args(["run", "--log-format", "json", "--create-topic", "--bootstrap-servers", &self.kafka]);
        command.args(["--database-url", &self.database]).env("KAFKA_CONSUMER_HTTP_ADDR", "off");
        command
    }
}

impl Member {
    pub(crate) fn start(mut command: Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        let file = || Stdio::from(File::options().append(true).open(log.path()).unwrap());
        let child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().unwrap();
        Self { child, log }
    }

    /// Starts a consumer that connects directly to the stack.
    pub(crate) fn of(stack: &Stack, arguments: &[&str]) -> Self {
        let mut command = Places::of(stack).consumer();
        command.args(arguments);
        Self::start(command)
    }

    /// Starts a consumer with failpoints that kill or stop it.
    pub(crate) fn failing(stack: &Stack, failpoints: &str, arguments: &[&str]) -> Self {
        let mut command = Places::of(stack).consumer();
        command.args(arguments).env("FAILPOINTS", failpoints);
        Self::start(command)
    }

    /// Returns the log so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// Returns the number of occurrences of a text in the log.
    pub(crate) fn times_said(&self, text: &str) -> usize {
        self.said().matches(text).count()
    }

    pub(crate) fn until(&mut self, what: &str, condition: impl FnMut(&Self) -> bool) {
        self.within(TIMEOUT, what, condition);
    }

    /// Waits until a condition holds. Panics if the process exits first or the timeout elapses.
    pub(crate) fn within(&mut self, timeout: Duration, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + timeout;
        while !condition(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {what}:\n{}", self.said());
            }
            assert!(Instant::now() < deadline, "after {timeout:?} not yet {what}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn until_said(&mut self, text: &str) {
        self.until(text, |member| member.said().contains(text));
    }

    /// Waits until a failpoint has stopped the process, which prints its name shortly before.
    pub(crate) fn until_stopped(&mut self) {
        self.until("stopped", |member| {
            fs::read_to_string(format!("/proc/{}/status", member.pid())).unwrap().contains("State:\tT")
        });
    }

    pub(crate) fn signal(&self, name: &str) {
        support::signal(&self.child, name);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process to exit. Returns its exit status and log.
    pub(crate) fn ended(mut self, timeout: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(Instant::now() < deadline, "still runs after {timeout:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that the process exits with this code and returns its log.
    pub(crate) fn ended_with(self, code: i32) -> String {
        let (status, said) = self.ended(TIMEOUT);
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }

    /// Asserts that the process is killed by SIGKILL and returns its log.
    pub(crate) fn was_killed(self) -> String {
        let (status, said) = self.ended(TIMEOUT);
        assert_eq!(status.signal(), Some(9), "{status}: {said}");
        said
    }

    /// Asserts that SIGTERM stops the process with exit code 0 within ten seconds. Returns its log.
    pub(crate) fn stop(self) -> String {
        self.signal("-TERM");
        let (status, said) = self.ended(Duration::from_secs(10));
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// Returns the peak resident memory in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The process has already exited unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the number of rows that all consumers have committed.
pub(crate) fn rows(stack: &Stack) -> i64 {
    number(stack, "SELECT coalesce(sum(rows_inserted), 0)::bigint FROM pipeline.consumer_offsets")
}

/// Returns the committed offset of each partition, or an empty list before the group's first start.
pub(crate) fn offsets(stack: &Stack) -> Vec<(i32, i64)> {
    if number(stack, "SELECT count(*) FROM pipeline.consumer_offsets") == 0 {
        return Vec::new();
    }
    let sql = "SELECT partition, next_offset FROM pipeline.consumer_offsets ORDER BY partition";
    query(stack, sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}
