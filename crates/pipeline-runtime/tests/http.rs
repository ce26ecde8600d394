//! The HTTP server, tested through a client.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipeline_runtime::http::{Answer, Answers, HttpError, Server, get};

#[derive(Default)]
struct Program {
    ill: AtomicBool,
}

impl Answers for Program {
    fn metrics(&self) -> String {
        "things_total 3\n".to_owned()
    }
    fn live(&self) -> Result<(), String> {
        Ok(())
    }
    fn ready(&self) -> Result<(), String> {
        if self.ill.load(Ordering::Relaxed) { Err("PostgreSQL is unavailable".to_owned()) } else { Ok(()) }
    }
    fn other(&self, path: &str, query: &str) -> Option<Answer> {
        (path == "/echo").then(|| Answer {
            content_type: "text/plain",
            body: query.to_owned().into(),
            policy: "default-src 'none'",
        })
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a raw request and reads the response until the connection is closed.
async fn raw(address: SocketAddr, request: &'static str) -> String {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_other_paths() {
    let program = Arc::new(Program::default());
    let server = Server::start("127.0.0.1:0", program.clone()).await.unwrap();
    let address = server.address().to_string();
    let ask = async |path: &str| get(&address, path, TIMEOUT).await.unwrap();
    assert_eq!(ask("/metrics").await, (200, "things_total 3\n".to_owned()));
    assert_eq!(ask("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(ask("/readyz").await.0, 200);
    program.ill.store(true, Ordering::Relaxed);
    assert_eq!(ask("/readyz").await, (503, "PostgreSQL is unavailable\n".to_owned()));
    assert_eq!(ask("/echo?since=7").await, (200, "since=7".to_owned()));
    assert_eq!(ask("/nothing").await.0, 404);

    let post = raw(server.address(), "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.to_lowercase().contains("allow: get, head"), "{post}");
    let head = raw(server.address(), "HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let nonsense = raw(server.address(), "nonsense\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
}

#[tokio::test]
async fn a_taken_port_is_said_and_a_dropped_server_frees_it() {
    let first = Server::start("127.0.0.1:0", Arc::new(Program::default())).await.unwrap();
    let address = first.address().to_string();
    let second = Server::start(&address, Arc::new(Program::default())).await.unwrap_err();
    assert!(matches!(second, HttpError::Taken { .. }) && second.to_string().contains("--http-addr off"), "{second}");
    drop(first);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while Server::start(&address, Arc::new(Program::default())).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the port was not freed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let closed = Server::start("127.0.0.1:0", Arc::new(Program::default())).await.unwrap().address().to_string();
    let refused = async {
        loop {
            if let Err(error) = get(&closed, "/livez", TIMEOUT).await {
                return error.to_string();
            }
            tokio::task::yield_now().await;
        }
    };
    let said = tokio::time::timeout(TIMEOUT, refused).await.unwrap();
    assert!(said.contains(&closed) && said.contains("--http-addr"), "{said}");
}
