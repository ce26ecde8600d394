//! A running consumer that is observed over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use local_stack::Stack;
use pipeline_runtime::http;

use super::{consumer, runtime, sender, signal};

/// A consumer process. It is killed when dropped.
pub(crate) struct Watched {
    pub(crate) child: Child,
    /// Address of its HTTP server.
    pub(crate) address: String,
    /// Log since the HTTP server started.
    log: Arc<Mutex<String>>,
}

impl Watched {
    /// Starts a consumer on a free port and waits until its HTTP server listens.
    pub(crate) fn start(stack: &Stack) -> Self {
        Self::run(consumer(stack).args(["--http-addr", "127.0.0.1:0"]))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended before it served");
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            if said["message"] == "http listening" {
                break said["address"].as_str().unwrap().to_owned();
            }
        };
        let kept = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&kept);
        // Keeps reading, so that the consumer never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                *keep.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, address, log: kept }
    }

    /// Returns the log since the HTTP server started.
    pub(crate) fn said(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns the status and body of a path.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer = runtime().block_on(http::get(&self.address, path, Duration::from_secs(10)));
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log.lock().unwrap()))
    }

    /// Returns the value of a sample, named as exported. Without labels it is the sum over all labels; a missing sample
    /// is 0.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let of = |line: &str| {
            let rest = line.strip_prefix(sample)?;
            let value = rest.rsplit_once(' ').filter(|_| rest.starts_with([' ', '{']))?.1;
            value.parse::<f64>().ok()
        };
        text.lines().filter_map(of).sum()
    }

    /// Waits until a condition holds. Panics after 30 seconds or if the process exits.
    pub(crate) fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition(self) {
            assert!(self.child.try_wait().unwrap().is_none(), "ended while it was waited for: {what}");
            assert!(Instant::now() < deadline, "not within 30 s: {what}\n{}", self.get("/metrics").1);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the process with SIGTERM and asserts that it succeeds.
    pub(crate) fn end(mut self) {
        signal(&self.child, "-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

/// A generator that sends at a rate until it is stopped. It is killed when dropped.
pub(crate) struct Sending(Child);

impl Sending {
    pub(crate) fn start(stack: &Stack, rate: &str) -> Self {
        let mut command = sender(stack, rate);
        Self(command.arg("--no-lake").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Stops the process with SIGTERM and asserts that it succeeds.
    pub(crate) fn end(mut self) {
        signal(&self.0, "-TERM");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
