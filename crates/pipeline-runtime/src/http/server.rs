//! HTTP server for probes, metrics and the program's own pages.

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

/// Maximum number of concurrent connections. Further connections wait.
const CONNECTIONS: usize = 64;
/// Timeout of reading the request headers.
const ASKING: Duration = Duration::from_secs(10);
/// Maximum lifetime of a connection.
const LASTING: Duration = Duration::from_mins(10);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Responses of a program. The methods run on the runtime's threads and must not block.
pub trait Answers: Send + Sync + 'static {
    /// Returns the metrics for `/metrics` in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Checks for `/livez` that the process can continue. On an error a supervisor restarts it.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    fn live(&self) -> Result<(), String>;
    /// Checks for `/readyz` that the program is doing its work.
    ///
    /// # Errors
    /// Returns the reason if it is not.
    fn ready(&self) -> Result<(), String>;
    /// Returns a warning, which `/readyz` adds as a second line while the program is ready.
    fn warning(&self) -> Option<String> {
        None
    }
    /// Returns the response for any other path, or `None` if it does not exist.
    fn other(&self, path: &str, query: &str) -> Option<Answer>;
}

/// A response with a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// `Content-Security-Policy` for browsers.
    pub policy: &'static str,
}

/// An HTTP server that stops on drop.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens at HOST:PORT and starts to serve. Must be called inside a Tokio runtime.
    pub async fn start(address: &str, answers: Arc<dyn Answers>) -> Result<Self, HttpError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => HttpError::Taken { address: address.to_owned() },
            _ => HttpError::Listen { address: address.to_owned(), error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, answers)) })
    }

    /// Returns the listen address, with the assigned port if port 0 was requested.
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

/// Accepts connections. Aborting this task closes them.
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
            // For example too many open files: some may be closed before the next attempt.
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
        tracing::debug!(%error, "http connection failed");
    }
}

fn respond<B>(request: &Request<B>, answers: &dyn Answers) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET or HEAD");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let uri = request.uri();
    match uri.path() {
        "/metrics" => with_body(StatusCode::OK, metrics::CONTENT_TYPE, answers.metrics().into()),
        "/livez" => probe(answers.live().map(|()| None)),
        "/readyz" => probe(answers.ready().map(|()| answers.warning())),
        path => match answers.other(path, uri.query().unwrap_or_default()) {
            Some(Answer { content_type, body, policy }) => {
                let mut response = with_body(StatusCode::OK, content_type, body);
                let name = HeaderName::from_static("content-security-policy");
                response.headers_mut().insert(name, HeaderValue::from_static(policy));
                response
            }
            None => text(StatusCode::NOT_FOUND, "not found; use /metrics, /livez or /readyz"),
        },
    }
}

/// Returns the response of a probe, with its warning if there is one.
fn probe(result: Result<Option<String>, String>) -> Response<Full<Bytes>> {
    match result {
        Ok(None) => text(StatusCode::OK, "ok"),
        Ok(Some(warning)) => text(StatusCode::OK, &format!("ok\n{warning}")),
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
