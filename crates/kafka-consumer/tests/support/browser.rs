//! A headless browser, driven through chromedriver over HTTP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A browser session. It ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}; `scripts/setup browser` installs it"));
        let mut browser = Self { driver, port, session: String::new() };
        let deadline = Instant::now() + TIMEOUT;
        while browser.ask("GET", "/status", &Value::Null).is_none_or(|answer| answer["ready"] != true) {
            assert!(Instant::now() < deadline, "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Containers run as root, where the sandbox is unavailable, and have a small /dev/shm.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let answer = browser.ask("POST", "/session", &wanted).unwrap();
        let session = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {answer}"));
        session.clone_into(&mut browser.session);
        browser.resize(1_400, 900);
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Returns the result of a JavaScript snippet.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the text of an element.
    pub(crate) fn text(&self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById('{id}').textContent"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Sets the size of the viewport, which may be narrower than the minimum window.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("/goog/cdp/execute", &json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size}));
    }

    /// Returns the messages of the browser's console.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition(self) {
            let page = || self.run("return document.body.innerText");
            assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}\n{}", page());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", &format!("/session/{}{path}", self.session), body).unwrap();
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    /// Returns the value of the driver's response, or `None` if it does not respond.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = Vec::new();
        // The driver may keep the connection open, so the response ends at its content length.
        let mut piece = vec![0; 65_536];
        loop {
            let read = stream.read(&mut piece).ok()?;
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = |line: &str| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
                if head.lines().find_map(length).is_some_and(|length: usize| body.len() >= length) {
                    let mut whole: Value = serde_json::from_str(body).ok()?;
                    return Some(whole["value"].take());
                }
            }
            if read == 0 {
                return None;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser's processes with the session.
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
