//! A server with scripted responses, for cases that are rare with a healthy S3.

#![allow(unreachable_pub, reason = "a part of several tests")]
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use lake::{Lake, LakeError, LakeUrl, S3Access};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Reaction of the server to one request.
#[derive(Clone, Copy)]
pub enum Does {
    /// Responds with a status and, except to HEAD, an error code.
    Says(u16, &'static str),
    /// Responds with status 200, a header and this body.
    Gives(&'static str, &'static str),
    /// Reads the request and closes the connection.
    HangsUp,
    /// Reads the request and never responds.
    KeepsSilent,
}

/// An empty listing, the response that opens a lake.
pub const LISTING: Does = Does::Gives("x: y", "<ListBucketResult></ListBucketResult>");

/// A running server and the requests it received, as `METHOD path`.
pub struct ScriptedS3 {
    pub endpoint: String,
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedS3 {
    /// Starts a server. The first request, which opens the lake, receives an empty listing. The others follow the
    /// script, whose last entry repeats.
    pub async fn start(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script, Arc::clone(&seen)));
            }
        });
        Self { endpoint, requests }
    }

    pub async fn open(&self) -> Result<Lake, LakeError> {
        let url = LakeUrl::S3 { bucket: "lake".to_owned(), prefix: "some/where".to_owned() };
        Lake::open(&url, access(&self.endpoint)).await
    }

    /// Returns the requests after the first one.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap()[1..].to_vec()
    }
}

pub fn access(endpoint: &str) -> S3Access {
    S3Access::Fixed {
        endpoint: endpoint.to_owned(),
        access_key: "key".to_owned(),
        secret_key: "secret".to_owned(),
        region: "us-east-1".to_owned(),
    }
}

async fn serve(stream: TcpStream, script: &[Does], seen: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let request = read_request(&mut stream).await?;
        let place = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let does = match place {
            0 => script.iter().find(|does| matches!(does, Does::KeepsSilent)).unwrap_or(&LISTING),
            _ => script.get(place - 1).or(script.last())?,
        };
        let answer = match *does {
            Does::HangsUp => return None,
            Does::KeepsSilent => std::future::pending().await,
            Does::Says(status, _) if request.starts_with("HEAD") => {
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
            }
            Does::Says(status, code) => {
                let body = format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>");
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Does::Gives(header, body) => {
                format!("HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut first = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let mut words = first.split([' ', '?']);
    Some(format!("{} {}", words.next()?, words.next()?))
}
