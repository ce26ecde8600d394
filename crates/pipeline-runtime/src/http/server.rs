//! The server.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::HttpError;
use crate::metrics;

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a client may take to ask, and how long a connection may last.
const ASKING: Duration = Duration::from_secs(10);
const LASTING: Duration = Duration::from_mins(10);

const PLAIN: &str = "text/plain; charset=utf-8";

/// What a program answers. Called on the runtime's threads: must not block.
pub trait Answers: Send + Sync + 'static {
    /// `/metrics`, in Prometheus' text format.
    fn metrics(&self) -> String;
    /// `/livez`: whether the process can go on, else why not. A supervisor restarts it then.
    fn live(&self) -> Result<(), String>;
    /// `/readyz`: whether it does its work now, else why not.
    fn ready(&self) -> Result<(), String>;
    /// Any other path; none where there is nothing.
    fn other(&self, path: &str, query: &str) -> Option<Answer>;
}

/// An answer with a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// What a browser may do with it (Content-Security-Policy).
    pub policy: &'static str,
}

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens at HOST:PORT and answers from now on. Must be called inside a Tokio runtime.
    pub async fn start(address: &str, answers: Arc<dyn Answers>) -> Result<Self, HttpError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => HttpError::Taken { address: address.to_owned() },
            _ => HttpError::Listen { address: address.to_owned(), error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, answers)) })
    }

    /// Where it listens, with the port that was found free where any was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends with its connections.
async fn accept(listener: TcpListener, answers: Arc<dyn Answers>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                connections.spawn(async move {
                    serve(stream, answers).await;
                    drop(place);
                });
            }
            // Too many open files, for instance: others may be closed by the next time.
            Err(error) => {
                tracing::debug!(%error, "http connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, answers: Arc<dyn Answers>) {
    let service = service_fn(move |request| {
        let response = respond(&request, answers.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKING)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(LASTING, connection).await {
        tracing::debug!(%error, "http connection broken");
    }
}

fn respond<B>(request: &Request<B>, answers: &dyn Answers) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let uri = request.uri();
    match uri.path() {
        "/metrics" => with_body(StatusCode::OK, metrics::CONTENT_TYPE, answers.metrics().into()),
        "/livez" => probe(answers.live()),
        "/readyz" => probe(answers.ready()),
        path => match answers.other(path, uri.query().unwrap_or_default()) {
            Some(Answer { content_type, body, policy }) => {
                let mut response = with_body(StatusCode::OK, content_type, body);
                let name = HeaderName::from_static("content-security-policy");
                response.headers_mut().insert(name, HeaderValue::from_static(policy));
                response
            }
            None => text(StatusCode::NOT_FOUND, "nothing here; /metrics, /livez and /readyz are"),
        },
    }
}

fn probe(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    with_body(status, PLAIN, format!("{line}\n").into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}
