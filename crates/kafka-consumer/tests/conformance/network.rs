//! Network between a writer and PostgreSQL: holds the writer before its next step, and loses requests and answers.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Point at which a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The writer opens a session.
    Connect,
    /// The session begins a transaction.
    Begin,
    /// The transaction has moved the offsets and inserted its rows. It notes the hours before COMMIT.
    Hours,
    /// The transaction is complete.
    Commit,
}

/// End of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// The connection fails before the server receives the request.
    Cut,
    /// The connection fails after the server has answered and before the client receives the answer.
    CutAfterAnswer,
}

/// Connection that is held. Dropping it cuts the connection.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) point: Point,
    /// Client's port in `pg_stat_activity`.
    pub(crate) port: u16,
    verdict: oneshot::Sender<Verdict>,
}

impl Held {
    pub(crate) fn end(self, verdict: Verdict) {
        // A connection that has closed by itself needs no verdict.
        let _ = self.verdict.send(verdict);
    }
}

/// Port that forwards to PostgreSQL, for one writer. Connections survive it, as those of a killed process do.
pub(crate) struct Network {
    pub(crate) port: u16,
    held: mpsc::UnboundedReceiver<Held>,
    accepting: JoinHandle<()>,
}

impl Network {
    pub(crate) async fn to(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (holds, held) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let holds = holds.clone();
                // An error closes both connections.
                tokio::spawn(async move { forward(client, server, &holds).await.ok() });
            }
        });
        Ok(Self { port, held, accepting })
    }

    /// Returns the next connection that is held.
    pub(crate) async fn next(&mut self) -> Option<Held> {
        self.held.recv().await
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut client: TcpStream, server: u16, holds: &mpsc::UnboundedSender<Held>) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let port = server.local_addr()?.port();
    let startup = message(&mut client, false).await?;
    // The session that terminates others is no step of its own.
    let is_takeover = has(&startup, b"kafka-consumer takeover");
    let hold = async |point| {
        let (verdict, ended) = oneshot::channel();
        if is_takeover || holds.send(Held { point, port, verdict }).is_err() {
            return Verdict::Pass;
        }
        ended.await.unwrap_or(Verdict::Cut)
    };
    if hold(Point::Connect).await != Verdict::Pass {
        return Ok(());
    }
    server.write_all(&startup).await?;

    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answer_is_last = AtomicBool::new(false);
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 || answer_is_last.load(Ordering::Relaxed) {
                return Ok(());
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    let requests = async {
        let mut points = Points::default();
        loop {
            let request = message(&mut from_client, true).await?;
            if let Some(point) = points.of(&request) {
                match hold(point).await {
                    Verdict::Pass => {}
                    Verdict::Cut => return Ok(()),
                    Verdict::CutAfterAnswer => answer_is_last.store(true, Ordering::Relaxed),
                }
            }
            to_server.write_all(&request).await?;
        }
    };
    tokio::select! {
        done = answers => done,
        done = requests => done,
    }
}

/// Reads a message of PostgreSQL's protocol. The first one has no type.
async fn message(from: &mut (impl AsyncRead + Unpin), typed: bool) -> io::Result<Vec<u8>> {
    let mut message = if typed { vec![from.read_u8().await?] } else { Vec::new() };
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let begin = message.len();
    message.resize(begin + (length as usize).saturating_sub(4), 0);
    from.read_exact(&mut message[begin..]).await?;
    Ok(message)
}

/// Finds the points of a session.
#[derive(Default)]
struct Points {
    /// Name of the prepared statement that notes the hours.
    note_hours: Option<Vec<u8>>,
}

impl Points {
    fn of(&mut self, request: &[u8]) -> Option<Point> {
        let (kind, text) = (request[0], &request[5..]);
        let mut strings = text.split(|byte| *byte == 0);
        match kind {
            b'Q' if text.starts_with(b"START TRANSACTION") => Some(Point::Begin),
            b'Q' if text == b"COMMIT\0" => Some(Point::Commit),
            b'P' if has(text, b"INTO pipeline.touched_hours") => {
                self.note_hours = strings.next().map(<[u8]>::to_vec);
                None
            }
            // A bind message begins with the names of the portal and the statement.
            b'B' => strings.nth(1).filter(|name| self.note_hours.as_deref() == Some(*name)).map(|_| Point::Hours),
            _ => None,
        }
    }
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
