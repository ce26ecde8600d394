//! A proxy to S3 that can report to be busy, and an object store that ignores conditions.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server that listens until the test's process ends.
pub(crate) struct FakeS3 {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Port of the S3 behind the proxy; none for an object store.
    upstream: Option<u16>,
    busy: AtomicBool,
    /// True if files of events are rejected, and nothing else.
    rejects_files: AtomicBool,
    rejected: AtomicU64,
    /// Number of requests that write a draft of a manifest.
    drafts: AtomicU64,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl FakeS3 {
    /// Starts a proxy to the S3 at a port.
    pub(crate) fn proxy_to(port: u16) -> Self {
        Self::start(Shared { upstream: Some(port), ..Shared::default() })
    }

    /// Starts an object store that ignores `If-None-Match`.
    pub(crate) fn without_conditions() -> Self {
        Self::start(Shared::default())
    }

    fn start(shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(shared);
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(stream));
            }
        });
        Self { endpoint, shared }
    }

    /// Makes the proxy answer all requests with 503 `SlowDown`.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.shared.busy.store(busy, Ordering::Relaxed);
    }

    /// Makes the proxy answer writes of files of events with 503 `SlowDown`.
    pub(crate) fn set_rejects_files(&self, rejects: bool) {
        self.shared.rejects_files.store(rejects, Ordering::Relaxed);
    }

    /// Returns the number of requests that wrote a draft of a manifest, or tried to.
    pub(crate) fn drafts(&self) -> u64 {
        self.shared.drafts.load(Ordering::Relaxed)
    }

    /// Returns the number of requests answered with 503.
    pub(crate) fn rejected(&self) -> u64 {
        self.shared.rejected.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Serves the only request of a connection.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let request = read(&mut BufReader::new(stream.try_clone().ok()?))?;
        let mut stream = stream;
        if request.head.starts_with("PUT ") && request.head.contains(".draft.json") {
            self.drafts.fetch_add(1, Ordering::Relaxed);
        }
        let is_file = request.head.starts_with("PUT ") && request.head.contains("/raw/");
        if self.busy.load(Ordering::Relaxed) || (is_file && self.rejects_files.load(Ordering::Relaxed)) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return stream.write_all(&answer("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>")).ok();
        }
        let Some(upstream) = self.upstream else {
            return stream.write_all(&self.handle(&request)).ok();
        };
        let mut server = TcpStream::connect(("127.0.0.1", upstream)).ok()?;
        let head = request.head.trim_end().to_owned() + "\r\nconnection: close\r\n\r\n";
        server.write_all(head.as_bytes()).ok()?;
        server.write_all(&request.body).ok()?;
        std::io::copy(&mut server, &mut stream).ok().map(drop)
    }

    fn handle(&self, request: &Request) -> Vec<u8> {
        let mut words = request.head.split([' ', '?']);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
        let mut objects = self.objects.lock().unwrap();
        match method {
            "PUT" => drop(objects.insert(path, request.body.clone())),
            "DELETE" => drop(objects.remove(&path)),
            _ if path.trim_matches('/').contains('/') => {
                return objects.get(&path).map_or_else(|| answer("404 Not Found", b""), |body| answer("200 OK", body));
            }
            _ => return answer("200 OK", b"<ListBucketResult></ListBucketResult>"),
        }
        answer("200 OK", b"")
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}
