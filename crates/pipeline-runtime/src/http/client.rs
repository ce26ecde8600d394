//! HTTP client for requests from one program to another.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::HttpError;

/// Maximum size of a response body in bytes.
const MOST: usize = 4 << 20;

/// Requests a path from HOST:PORT within `limit`. Returns the status and the body.
pub async fn get(address: &str, path: &str, limit: Duration) -> Result<(u16, String), HttpError> {
    let failed = |error: String| HttpError::NoAnswer { address: address.to_owned(), error };
    match tokio::time::timeout(limit, ask(address, path)).await {
        Ok(answer) => answer.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("timed out after {} s", limit.as_secs_f32()))),
    }
}

async fn ask(address: &str, path: &str) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MOST).collect().await?.to_bytes();
    driving.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
